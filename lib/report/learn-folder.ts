/** The runs of `cambium learn` in a folder: its own learn.json, or OUT/<label>/seed-<s>/learn.json of several. */

import { join } from 'node:path'
import { z } from 'zod'
import { problemText } from '../checks/problems.js'
import type { LearnReport } from '../continual/learn-report.js'
import { CambiumError, messageOf } from '../errors.js'
import { readdir, readFile, stat } from '../files.js'

const LEARN_FILE = 'learn.json'

const number = z.number()
const whole = number.int().min(0)
const schema = z.object({
  version: z.literal(1),
  cambium: z.string(),
  model: z.string(),
  method: z.string(),
  label: z.string(),
  seed: whole,
  protocol: z.enum(['domain-class-incremental', 'class-incremental', 'domain-incremental']),
  settings: z.record(z.string(), z.unknown()),
  tasks: z.array(
    z.object({ name: z.string(), classes: whole, train: whole, validation: whole, steps: whole, seconds: number, trained: whole }),
  ),
  sets: z.array(z.object({ name: z.string(), task: whole.nullable(), classes: whole, images: whole })).min(1),
  stages: z
    .array(
      z.object({
        after: number.int().min(-1),
        unionClasses: whole.optional(),
        sets: z.record(
          z.string(),
          z.object({
            own: number,
            union: number.optional(),
            images: whole,
            selection: z.object({ tasks: z.array(number), weights: z.array(number) }).optional(),
          }),
        ),
      }),
    )
    .min(1),
  validation: number.optional(),
  parameters: whole,
  peakBytes: number,
})

/**
 * Runs by label and seed, in the order of their names.
 * @returns undefined where the folder holds no run of this kind
 * @throws E_DATA for a file that is no learn.json, naming the place
 */
export async function readLearnRuns(folder: string): Promise<LearnReport[] | undefined> {
  const files = await learnFiles(folder)
  if (files.length === 0) return undefined
  return Promise.all(files.map(readLearnReport))
}

async function learnFiles(folder: string): Promise<string[]> {
  if (await isFile(join(folder, LEARN_FILE))) return [join(folder, LEARN_FILE)]
  const files: string[] = []
  for (const label of await foldersIn(folder)) {
    for (const seed of await foldersIn(join(folder, label))) {
      const file = join(folder, label, seed, LEARN_FILE)
      if (seed.startsWith('seed-') && (await isFile(file))) files.push(file)
    }
  }
  return files
}

const isFile = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined))?.isFile() ?? false

async function foldersIn(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => [])
  return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort()
}

async function readLearnReport(file: string): Promise<LearnReport> {
  let value: unknown
  try {
    value = JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    throw new CambiumError('E_DATA', `${file}: expected JSON, got ${messageOf(error)}`)
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new CambiumError('E_DATA', `${file}: ${problemText(schema, parsed.error, value)}`)
}
