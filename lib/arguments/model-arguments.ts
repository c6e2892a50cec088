/** Arguments of models, methods, objectives, optimizers, adapters in memory, and tensors. */
import { z } from 'zod'
import type { LoadAdapterOptions } from '../adapters/adapter-set.js'
import type { SaveLoraOptions } from '../checkpoint/lora-file.js'
import type { MergeOptions } from '../checkpoint/merge.js'
import type { DeviceOptions } from '../device.js'
import type { DikiOptions } from '../methods/diki.js'
import type { FullFineTuningOptions } from '../methods/full-fine-tuning.js'
import type { LoraOptions } from '../methods/lora.js'
import type { RAdapterOptions } from '../methods/r-adapter.js'
import type { ClipOptions } from '../models/clip.js'
import type { ClassCrossEntropyOptions } from '../objectives/cross-entropy.js'
import type { InfoNceOptions } from '../objectives/info-nce.js'
import type { MpmNceOptions } from '../objectives/mpm-nce.js'
import type { AdamWOptions } from '../optim/adamw.js'
import type { ScheduleOptions } from '../optim/schedule.js'
import type { SgdOptions } from '../optim/sgd.js'
import { optional, type Signatures } from './guard.js'
import * as k from './kinds.js'

const { clip, count, flag, number, path, text, tower, whole } = k
const device = z.enum(['cpu', 'cuda', 'auto'])

const clipOptions = k.optionsOf<ClipOptions>({
  device,
  dtype: k.dtype,
  imageSize: count,
  layout: text,
  hiddenAct: text,
  crop: z.enum(['hf', 'openai']),
  lastBlock: z.enum(['pooled', 'all']),
  checkpoint: z.enum(['none', 'blocks']),
  keepPacked: flag,
})

export const loraShape = {
  r: count,
  alpha: number,
  rslora: flag,
  targets: z.union([k.texts, text, k.kind('a RegExp', (value) => typeof value.exec === 'function')]),
  exclude: z.union([k.texts, text]),
  tower,
  layers: k.listOf(whole),
  rankPattern: z.record(z.string(), count),
  alphaPattern: z.record(z.string(), number),
  dora: flag,
  bias: flag,
  dropout: number,
  init: z.enum(['kaiming', 'gaussian', 'pissa', 'olora']),
  seed: number,
} satisfies { [K in keyof Required<LoraOptions>]: z.ZodType }

const mergeOptions = k.optionsOf<MergeOptions>({ alpha: number, averages: k.lookup, signal: k.signal, onProgress: k.callback })
const shared = { weightDecay: number, decays: k.callback, clipNorm: number, average: flag, anchor: k.anything }
const parameters = k.listOf(k.parameter)
const tensors = k.listOf(k.tensor)
const shape = k.listOf(whole)
const elements = z.enum(['f32', 'bf16', 'f16', 'i32', 'i64', 'u8'])

export const MODEL_ARGUMENTS = {
  'Clip.load': { folder: path, options: optional(clipOptions) },
  'new RAdapter': {
    clip,
    options: optional(
      k.optionsOf<RAdapterOptions>({ rank: count, drop: number, dropBy: z.enum(['adapter', 'token']), scale: number, seed: number }),
    ),
  },
  'Lora.create': { clip, options: optional(k.optionsOf<LoraOptions>(loraShape)) },
  'FullFineTuning.create': { clip, options: optional(k.optionsOf<FullFineTuningOptions>({ logitScale: flag })) },
  'new Diki': {
    clip,
    options: optional(k.optionsOf<DikiOptions>({ depth: count, length: count, towers: k.listOf(tower), seed: number })),
    task: optional(whole),
  },
  'new DikiStack': { tasks: k.listOf(k.diki) },
  'new ClassCrossEntropy': {
    logitScale: k.parameter,
    options: optional(k.optionsOf<ClassCrossEntropyOptions>({ smoothing: number })),
  },
  'new InfoNceLoss': { logitScale: k.parameter, options: optional(k.optionsOf<InfoNceOptions>({ multiPositive: flag })) },
  'new MpmNceLoss': { options: optional(k.optionsOf<MpmNceOptions>({ margin: number, epsilon: number, temperature: number })) },
  'new AdamW': { parameters, options: optional(k.optionsOf<AdamWOptions>({ ...shared, beta1: number, beta2: number, eps: number })) },
  'new Sgd': { parameters, options: optional(k.optionsOf<SgdOptions>({ ...shared, momentum: number })) },
  cosineWarmup: {
    options: k.optionsOf<ScheduleOptions>({ lr: number, steps: number, warmup: number, minLr: number }, 'lr', 'steps'),
  },
  defaultMomentum: { steps: number },
  'new AdapterSet': { clip },
  openAdapter: { clip, folder: path },
  loadAdapter: { clip, folder: path },
  saveAdapter: {
    adapter: k.rAdapter,
    folder: path,
    averages: optional(k.lookup),
    options: optional(k.optionsOf<{ alpha?: number }>({ alpha: number })),
  },
  loadLora: { clip, folder: path, options: optional(k.optionsOf<Pick<LoadAdapterOptions, 'name'>>({ name: text })) },
  saveLora: {
    lora: k.lora,
    folder: path,
    options: optional(
      k.optionsOf<SaveLoraOptions>({ averages: k.lookup, layout: z.enum(['hf4', 'hf5']), baseModel: text, keep: k.map, signal: k.signal }),
    ),
  },
  merge: { clip, adapter: k.rAdapter, options: optional(mergeOptions) },
  mergeLora: { clip, lora: k.lora, options: optional(mergeOptions) },
  useDevice: { device, options: optional(k.optionsOf<DeviceOptions>({ tf32: flag })) },
  'Tensor.from': { data: k.bytes, shape, dtype: optional(elements) },
  'Tensor.zeros': { shape, dtype: optional(elements) },
  'Tensor.scalar': { value: number },
  'Parameter.named': { name: text, data: k.bytes.nullable(), shape, dtype: optional(elements) },
  backward: { outputs: z.union([k.tensor, tensors]), seeds: optional(tensors) },
  noGradient: { fn: k.callback },
  recompute: { fn: k.callback, inputs: tensors },
  scope: { fn: k.callback },
  step: { fn: k.callback },
  capture: { fn: k.callback, options: optional(k.optionsOf<{ otherwise?: unknown }>({ otherwise: k.anything })) },
} satisfies Signatures
