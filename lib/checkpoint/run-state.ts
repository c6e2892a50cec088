// A training run on disk: run.json (where it stands and with which settings) and the tensors it needs to go on to the
// same bits. Each state is written into a file of its own name; run.json, renamed last, says which one counts.

import { join } from 'node:path'
import { z } from 'zod'
import { CambiumError } from '../errors.js'
import { readdir, rm } from '../files.js'
import { makeFolder, writeFileAtomic } from '../formats/atomic-file.js'
import { readJsonObject } from '../formats/json-fields.js'
import { openSafetensors } from '../formats/safetensors-read.js'
import { writeSafetensors } from '../formats/safetensors-write.js'
import { native } from '../native.js'
import type { Parameter } from '../tensor.js'

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
  if (!parsed.success)
    throw new CambiumError('E_RUN', `${join(folder, FILE)}: expected the state of a run, got ${z.prettifyError(parsed.error)}`)
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
    parameters.map((p) => ({ name: p.name, dtype: 'F32', shape: p.shape, data: async () => new Uint8Array(await native.read(p.id)) })),
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
  const file = await openSafetensors(join(folder, state.tensors))
  for (const parameter of parameters) {
    const stored = file.tensors.get(parameter.name)
    if (!stored || stored.shape.join() !== parameter.shape.join())
      throw new CambiumError(
        'E_RUN',
        `${parameter.name}: expected shape [${parameter.shape}], got ${stored ? `[${stored.shape}]` : 'no such tensor'} in ${file.path}`,
      )
    const { path, offset, count, dtype, fileSize } = stored
    await native.readTensorInto(parameter.id, { path, offset, count, from: dtype, expectedSize: fileSize })
  }
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
