/** `report.html` of a run: what was learned and what was kept, for people. */
import { join } from 'node:path'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { page } from './page.js'
import { baselinesOf, type Run, readRun } from './run-folder.js'

export const REPORT_FILE = 'report.html'

/** What the report of a run shows beside the run. */
export interface ReportOptions {
  /** Folders of other runs on the same sets, such as full fine-tuning: points beside this run's curve. */
  compare?: readonly string[]
  /** Small pictures of images gained and lost. Default true. */
  pictures?: boolean
  /** File to write. Default `report.html` in the folder. */
  out?: string
}

/** The file that was written, and what is missing from it. */
export interface WrittenReport {
  /** Path. */
  readonly file: string
  readonly bytes: number
  /** Parts of the run that are missing or broken; the report names them too. */
  readonly problems: readonly string[]
}

/**
 * Makes the report of a run from what is in its folder. Runs in its `baselines/` are compared with as well.
 * @throws E_NOT_FOUND when a folder holds no run, E_IO, E_NO_SPACE
 */
export async function writeReport(folder: string, options: ReportOptions = {}): Promise<WrittenReport> {
  const { compare = [], pictures = true, out = join(folder, REPORT_FILE) } = options
  const run = await readRun(folder)
  const others: Run[] = []
  for (const other of [...compare, ...(await baselinesOf(folder))]) others.push(await readRun(other, { predictions: false }))
  const text = await page(run, { others, pictures })
  await writeFileAtomic(out, text)
  return { file: out, bytes: Buffer.byteLength(text), problems: run.problems }
}
