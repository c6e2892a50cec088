// The setting of a method that is best on validation: tried with the first seed alone, and the same number for every method that is
// to be compared. Test sets choose nothing.

import { join } from 'node:path'
import { z } from 'zod'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'
import { rename, rm } from '../files.js'
import { makeFolder, writeFileAtomic } from '../formats/atomic-file.js'
import { readJsonObject } from '../formats/json-fields.js'
import type { LearnReport } from './learn-report.js'
import type { MethodSettings } from './learners/registry.js'

export interface Choice {
  /** what was taken */
  readonly settings: MethodSettings
  /** every candidate with its mean validation accuracy over all tasks after the last; absent where there was one */
  readonly tried?: readonly { readonly settings: MethodSettings; readonly validation: number }[]
}

const settings = z.record(z.string(), z.unknown())
const schema = z.object({ settings, tried: z.array(z.object({ settings, validation: z.number() })) })

/**
 * Runs every candidate, `choice.json` of the folder says what came out, and the run of the best becomes that of its seed.
 * @param run gives a report, or undefined when it was stopped; so does this
 * @throws E_OPTION without validation sets, E_RUN for a choice among others in the folder
 */
export async function chooseSettings(
  folder: string,
  candidates: readonly MethodSettings[],
  seed: number,
  run: (seed: number, settings: MethodSettings, place: string) => Promise<LearnReport | undefined>,
): Promise<Choice | undefined> {
  if (candidates.length === 1) return { settings: candidates[0] }
  const place = (k: number) => join(folder, `tried-${k}`)
  const choice = (await readChoice(folder, candidates)) ?? (await tryAll())
  if (!choice) return undefined
  for (const [k, candidate] of candidates.entries()) {
    if (isSame(candidate, choice.settings)) await rename(place(k), join(folder, `seed-${seed}`)).catch(ignoreMissing)
    else await rm(place(k), { recursive: true, force: true })
  }
  return choice

  async function tryAll(): Promise<Choice | undefined> {
    const tried: { settings: MethodSettings; validation: number }[] = []
    for (const [k, candidate] of candidates.entries()) {
      const report = await run(seed, candidate, place(k))
      if (!report) return undefined
      if (report.validation === undefined)
        throw new CambiumError('E_OPTION', `methods: expected validation sets to choose among ${candidates.length} settings by, got none`)
      tried.push({ settings: candidate, validation: report.validation })
    }
    const best = tried.reduce((best, one) => (one.validation > best.validation ? one : best))
    const made = { settings: best.settings, tried }
    await makeFolder(folder)
    await writeFileAtomic(join(folder, FILE), `${JSON.stringify(made, null, 1)}\n`)
    return made
  }
}

const FILE = 'choice.json'

/** The report with all that was tried among its settings, as `learn.json` keeps it. */
export async function withTried(report: LearnReport, { tried }: Choice, folder: string): Promise<LearnReport> {
  const whole = { ...report, settings: { ...report.settings, tried } }
  await writeFileAtomic(join(folder, 'learn.json'), `${JSON.stringify(whole, null, 1)}\n`)
  return whole
}

async function readChoice(folder: string, candidates: readonly MethodSettings[]): Promise<Choice | undefined> {
  const path = join(folder, FILE)
  const raw = await readJsonObject(path)
  if (!raw) return undefined
  const parsed = schema.safeParse(raw)
  if (!parsed.success) throw new CambiumError('E_RUN', `${path}: ${problemText(schema, parsed.error, raw)}`)
  const before = parsed.data.tried.map(({ settings }) => settings)
  if (!isSame(before, candidates))
    throw new CambiumError(
      'E_RUN',
      `${path}: expected a choice among ${JSON.stringify(candidates)}, got one among ${JSON.stringify(before)}`,
    )
  return parsed.data
}

const isSame = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)

/** Renamed before. */
function ignoreMissing(error: unknown): void {
  if ((error as { code?: unknown }).code !== 'ENOENT') throw error
}
