/**
 * A run over a stream of tasks on disk, in `learn-state.json` of its folder: the tasks learned, what was measured, and all that
 * the method needs to go on without the earlier data. Tensors lie in a file of their own name; the JSON, renamed last, says which
 * counts, so that a run killed at any instant finds this state or the one before.
 */

import { join } from 'node:path'
import { z } from 'zod'
import { parameterToWrite } from '../checkpoint/parameter-file.js'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'
import { readdir, readFile, rm } from '../files.js'
import { makeFolder, writeFileAtomic } from '../formats/atomic-file.js'
import { readJsonObject } from '../formats/json-fields.js'
import { removeLeftovers } from '../formats/leftovers.js'
import { openSafetensors, type SafetensorsFile } from '../formats/safetensors-read.js'
import { type TensorToWrite, writeSafetensors } from '../formats/safetensors-write.js'
import { storedFloats } from '../formats/stored-floats.js'
import type { Clip } from '../models/clip.js'
import type { FloatDType } from '../native.js'
import type { Learner, LearnerState } from './learner.js'
import { LEARN_PROTOCOLS, taskSpec, watchSpec } from './task-spec.js'

const count = z.number().int().min(0)
const texts = z.array(z.string()).readonly()

const savedTask = z.object({
  name: z.string(),
  digest: z.string(),
  classNames: texts,
  templates: texts,
  spec: taskSpec.optional(),
  /** what is told of it in learn.json */
  learned: z.object({
    name: z.string(),
    classes: count,
    train: count,
    validation: count,
    steps: count,
    seconds: z.number(),
    trained: count,
  }),
})

const setAccuracy = z.object({
  own: z.number(),
  union: z.number().optional(),
  images: count,
  selection: z.object({ tasks: z.array(count).readonly(), weights: z.array(count).readonly() }).optional(),
})

const stage = z.object({
  after: z.number().int().min(-1),
  unionClasses: count.optional(),
  sets: z.record(z.string(), setAccuracy),
})

const schema = z.object({
  version: z.literal(1),
  cambium: z.string(),
  level: z.string(),
  /** folder of the pretrained model, and what tells it from others */
  model: z.string(),
  base: z.string(),
  method: z.string(),
  /** how the method is called in tables */
  label: z.string(),
  /** as the tasks file gave them: the method is made anew of them */
  options: z.record(z.string(), z.unknown()),
  /** as the method tells them: what must not change */
  settings: z.record(z.string(), z.unknown()),
  seed: count,
  protocol: z.enum(LEARN_PROTOCOLS),
  tasks: z.array(savedTask),
  watch: z.array(watchSpec),
  stages: z.array(stage),
  peakBytes: z.number(),
  /** the method's own */
  json: z.record(z.string(), z.unknown()),
  /** a file of the same folder */
  tensors: z.string().regex(/^learner-\d+\.safetensors$/),
})

export type LearnState = z.infer<typeof schema>

const FILE = 'learn-state.json'

/** undefined when the folder holds no run. @throws E_RUN for a malformed one */
export async function readLearnState(folder: string): Promise<LearnState | undefined> {
  const path = join(folder, FILE)
  const raw = await readJsonObject(path)
  if (!raw) return undefined
  const parsed = schema.safeParse(raw)
  if (!parsed.success) throw new CambiumError('E_RUN', `${path}: ${problemText(schema, parsed.error, raw)}`)
  return parsed.data
}

/** @param changed whether the method's tensors are other than those written last */
export async function writeLearnState(
  folder: string,
  state: Omit<LearnState, 'version' | 'json' | 'tensors'>,
  learner: LearnerState,
  changed: boolean,
): Promise<void> {
  await makeFolder(folder)
  const tensors = `learner-${state.tasks.length}.safetensors`
  if (changed) await writeSafetensors(join(folder, tensors), tensorsOf(learner))
  await writeFileAtomic(join(folder, FILE), `${JSON.stringify({ version: 1, ...state, json: learner.json, tensors }, null, 1)}\n`)
  if (state.tasks.length > 0) await rm(join(folder, `learner-${state.tasks.length - 1}.safetensors`), { force: true })
}

function tensorsOf({ tensors, doubles = new Map() }: LearnerState): TensorToWrite[] {
  return [
    ...tensors.map((tensor) => parameterToWrite(tensor)),
    ...[...doubles].map(([name, { buffer, byteOffset, byteLength, length }]): TensorToWrite => {
      return { name, dtype: 'F64', shape: [length], data: new Uint8Array(buffer, byteOffset, byteLength) }
    }),
  ]
}

/** Gives a method back what it had saved; what a killed write left goes. @throws E_RUN for a tensor that is missing */
export async function restoreLearner(folder: string, state: LearnState, learner: Learner): Promise<void> {
  await removeLeftovers(folder)
  const file = await openSafetensors(join(folder, state.tensors))
  const f32 = async (name: string) => {
    const tensor = stored(file, name, 'F32')
    return { shape: tensor.shape, data: await storedFloats(tensor) }
  }
  let whole: Promise<Buffer> | undefined
  const f64 = async (name: string) => {
    const { path, offset, bytes, fileSize } = stored(file, name, 'F64')
    whole ??= readFile(path)
    const buffer = await whole
    if (buffer.length !== fileSize) throw new CambiumError('E_FILE_CHANGED', `${path}: expected ${fileSize} bytes, got ${buffer.length}`)
    return new Float64Array(Uint8Array.from(buffer.subarray(offset, offset + bytes)).buffer)
  }
  await learner.restore(state.json, f32, f64)
}

function stored(file: SafetensorsFile, name: string, dtype: 'F32' | 'F64') {
  const found = file.tensors.get(name)
  if (found?.dtype === dtype) return found
  throw new CambiumError('E_RUN', `${name}: expected a tensor of type ${dtype} in ${file.path}, got ${found ? found.dtype : 'none'}`)
}

/** What must not change between the parts of a run: the method's own settings, and how the model computes. */
export function settingsOf(clip: Clip, learner: Learner): Record<string, unknown> {
  return { ...learner.settings, dtype: clip.dtype, imageSize: clip.config.vision.imageSize }
}

/** The operands of the run, for whoever opens it again. */
export function dtypeOf({ settings }: LearnState): FloatDType | undefined {
  return settings.dtype === 'f32' || settings.dtype === 'bf16' ? settings.dtype : undefined
}

/** The side of its images; absent in a run that did not say. */
export function imageSizeOf({ settings }: LearnState): number | undefined {
  return typeof settings.imageSize === 'number' ? settings.imageSize : undefined
}

/** @throws E_BASE for another model, E_RUN naming what else differs */
export function checkSameLearner(saved: LearnState, now: Pick<LearnState, 'base' | 'method' | 'settings' | 'seed' | 'protocol'>): void {
  if (saved.base !== now.base)
    throw new CambiumError(
      'E_BASE',
      `continue: expected the model that the run began with (${saved.base.slice(0, 19)}…), got another (${now.base.slice(0, 19)}…)`,
    )
  for (const key of ['method', 'seed', 'protocol'] as const) refuseOther(key, saved[key], now[key])
  for (const key of new Set([...Object.keys(saved.settings), ...Object.keys(now.settings)]))
    refuseOther(key, saved.settings[key], now.settings[key])
}

function refuseOther(key: string, before: unknown, now: unknown): void {
  const [a, b] = [before, now].map((value) => JSON.stringify(value ?? null))
  if (a !== b) throw new CambiumError('E_RUN', `continue: expected ${key} as when the run began (${a}), got ${b}`)
}

/** The folder itself, or those below it that `runLearn` makes, in order. */
export async function runFolders(folder: string): Promise<string[]> {
  if (await readLearnState(folder)) return [folder]
  const found: string[] = []
  for (const label of await foldersIn(folder))
    for (const seed of await foldersIn(join(folder, label)))
      if (/^seed-\d+$/.test(seed) && (await readLearnState(join(folder, label, seed)))) found.push(join(folder, label, seed))
  return found
}

async function foldersIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
}
