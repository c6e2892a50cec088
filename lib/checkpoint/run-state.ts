// A training run on disk: run.json (where it stands and with which settings) and the tensors it needs to go on to the
// same bits. Each state is written into a file of its own name; run.json, renamed last, says which one counts.

import { join } from 'node:path'
import { z } from 'zod'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'
import { readdir, rm } from '../files.js'
import { makeFolder, writeFileAtomic } from '../formats/atomic-file.js'
import { readJsonObject } from '../formats/json-fields.js'
import { openSafetensors } from '../formats/safetensors-read.js'
import { writeSafetensors } from '../formats/safetensors-write.js'
import type { Parameter } from '../tensor.js'
import { fillParameters, parameterToWrite } from './parameter-file.js'

const schema = z.object({
  version: z.literal(1),
  cambium: z.string(),
  level: z.string(),
  base: z.string(),
  /** what must not change between the parts of a run */
  settings: z.record(z.string(), z.unknown()),
  step: z.number().int().min(0),
  steps: z.number().int().min(1),
  cursor: z.object({ epoch: z.number().int().min(0), position: z.number().int().min(0) }),
  skipped: z.number().int().min(0),
  /** where the best epoch is kept: which one, and its score */
  best: z.object({ epoch: z.number().int().min(0), score: z.number() }).optional(),
  /** a file of the same folder */
  tensors: z.string().regex(/^state-\d+\.safetensors$/),
})

export type RunState = z.infer<typeof schema>

const FILE = 'run.json'

/** undefined when the folder holds no run. @throws E_RUN for a malformed one */
export async function readRunState(folder: string): Promise<RunState | undefined> {
  const raw = await readJsonObject(join(folder, FILE))
  if (!raw) return undefined
  const parsed = schema.safeParse(raw)
  if (!parsed.success) throw new CambiumError('E_RUN', `${join(folder, FILE)}: ${problemText(schema, parsed.error, raw)}`)
  return parsed.data
}

/** Writes the state; a run killed at any instant finds this one or the one before. */
export async function writeRunState(
  folder: string,
  state: Omit<RunState, 'tensors' | 'version'>,
  parameters: readonly Parameter[],
): Promise<void> {
  await makeFolder(folder)
  const tensors = `state-${state.step}.safetensors`
  await writeSafetensors(
    join(folder, tensors),
    parameters.map((parameter) => parameterToWrite(parameter)),
  )
  await writeFileAtomic(join(folder, FILE), `${JSON.stringify({ version: 1, ...state, tensors }, null, 2)}\n`)
  await keepOnly(folder, tensors)
}

async function keepOnly(folder: string, tensors: string): Promise<void> {
  for (const name of await readdir(folder))
    if (/^state-\d+\.safetensors$/.test(name) && name !== tensors) await rm(join(folder, name), { force: true })
}

/** Puts the saved values into the run's tensors; states that a kill left beside the one that counts go. @throws E_RUN when one is missing or of another shape */
export async function loadTensors(folder: string, state: RunState, parameters: readonly Parameter[]): Promise<void> {
  await fillParameters(parameters, await openSafetensors(join(folder, state.tensors)), 'E_RUN')
  await keepOnly(folder, state.tensors)
}

/** @throws E_RUN that names the first setting that differs */
export function checkSameRun(saved: RunState, base: string, settings: Readonly<Record<string, unknown>>): void {
  if (saved.base !== base)
    throw new CambiumError(
      'E_BASE',
      `resume: expected the model that the run began with (${saved.base.slice(0, 19)}…), got another (${base.slice(0, 19)}…)`,
    )
  for (const [key, value] of Object.entries(settings)) {
    const before = JSON.stringify(saved.settings[key] ?? null)
    const now = JSON.stringify(value ?? null)
    if (before !== now) throw new CambiumError('E_RUN', `resume: expected ${key} as when the run began (${before}), got ${now}`)
  }
}
