/** `cambium report`. */
import process from 'node:process'
import { Command } from 'commander'
import { UsageError } from './settings.js'

const EXAMPLES = `
Examples:
  cambium report runs/photos
  cambium report runs/photos --compare runs/photos-full
  cambium report runs/photos --no-pictures --out photos.html

RUN is a folder that \`cambium train --out RUN\` or \`cambium learn --out RUN\` wrote, finished or not. The report is one file without script or address
outside: curves, scores over alpha, classes, images gained and lost, settings. OTHER runs on the same sets, such as full
fine-tuning, become points beside its curve; those in RUN/baselines are compared with as well.`

interface ReportFlags {
  readonly compare?: string[]
  readonly pictures: boolean
  readonly out?: string
  readonly json?: boolean
}

export function reportCommand(exit: (code: number) => void): Command {
  return new Command('report')
    .description('Make report.html of a run: what was learned, what was kept')
    .argument('<run>', 'folder of a run')
    .option('--compare <dirs...>', 'folders of other runs on the same sets')
    .option('--no-pictures', 'names of images gained and lost without small pictures of them')
    .option('--out <file>', 'file to write (default: report.html in the folder)')
    .option('--json', 'print one JSON object on stdout, everything else on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (run: string, flags: ReportFlags) => exit(await write(run, flags)))
}

async function write(run: string, { compare, pictures, out, json }: ReportFlags): Promise<number> {
  if (run === '') throw new UsageError('report: expected the folder of a run, got nothing')
  const learned = await rebuildLearned(run, { compare, out })
  if (learned !== undefined) {
    process.stdout.write(json ? `${JSON.stringify({ file: learned })}\n` : `report: ${learned}\n`)
    return 0
  }
  const { writeReport } = await import('../report/write-report.js')
  const written = await writeReport(run, { compare, pictures, out })
  for (const problem of written.problems) process.stderr.write(`warning: ${problem}\n`)
  process.stdout.write(json ? `${JSON.stringify(written)}\n` : `report: ${written.file}\n`)
  return 0
}

/** The report of runs over a stream of tasks, where the folder holds such. @returns the file, undefined where it does not */
async function rebuildLearned(folder: string, { compare, out }: Pick<ReportFlags, 'compare' | 'out'>): Promise<string | undefined> {
  const { readLearnRuns } = await import('../report/learn-folder.js')
  const runs = await readLearnRuns(folder)
  if (runs === undefined) return undefined
  if (compare !== undefined) throw new UsageError(`--compare: expected a run of cambium train, got ${folder} of cambium learn`)
  const { writeLearnReport } = await import('../report/learn-report-page.js')
  return writeLearnReport(folder, runs, out)
}
