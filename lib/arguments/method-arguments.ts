/** Arguments of methods of public classes. Those of a class with `dispose` are refused after it, also without arguments. */
import { z } from 'zod'
import type { LoadAdapterOptions } from '../adapters/adapter-set.js'
import type { SaveOptions } from '../models/save-clip.js'
import type { TextOptions } from '../models/text-batch.js'
import type { EncodeOptions } from '../train/features.js'
import type { RunOptions } from '../train/train.js'
import { classPrompts } from './continual-arguments.js'
import { optional, type Signatures } from './guard.js'
import * as k from './kinds.js'
import { encoding } from './training-arguments.js'

const { flag, number, path, text, texts, whole } = k
const injection = optional(k.injection)
const textOptions = optional(k.optionsOf<TextOptions>({ dedupe: flag, cut: flag }))
const encodeOptions = optional(k.optionsOf<EncodeOptions>(encoding))
const classes = k.listOf(classPrompts)
const layer = { tower: k.tower, index: whole }
const at = { alpha: number, averages: optional(k.lookup) }
const decays = { parameter: k.parameter }
const draw = { seed: number, step: number }
const method = { layer, decays, draw, at, dispose: {} }
const rates = { lr: number, momentum: optional(number) }
const optimizer = { prepare: rates, apply: {}, update: rates, state: {}, dispose: {} }
const objective = { loss: { image: k.tensor, text: k.tensor, labels: k.tensor } }
const packed = k.kind('packed texts: {values, shape}', ({ values, shape }) => typeof values === 'object' && typeof shape === 'object')
const choice = k.kind(
  'a choice for each query: {task, textWeight}',
  (of) => ArrayBuffer.isView(of.task) && ArrayBuffer.isView(of.textWeight),
)
const active = z.union([text, texts, k.map])
const adapterName = k.optionsOf<Pick<LoadAdapterOptions, 'name'>>({ name: text })

export const METHOD_ARGUMENTS = {
  ...methodsOf('Clip', {
    reload: {},
    tokenize: { texts },
    encodeImage: { pixels: k.tensor, injection, first: optional(whole) },
    encodeText: { tokens: k.tokens, injection, options: textOptions },
    packTexts: { tokens: k.tokens, options: textOptions },
    encodePacked: { texts: packed, injection },
    save: {
      folder: path,
      options: optional(k.optionsOf<SaveOptions>({ dtype: k.saveDtype, maxShardBytes: number, signal: k.signal })),
    },
    dispose: {},
  }),
  ...methodsOf('RAdapter', { ...method, factors: {}, gates: {} }),
  ...methodsOf('Lora', method),
  ...methodsOf('Diki', method),
  ...methodsOf('DikiStack', { at: { index: k.tensor, weight: k.tensor }, dispose: {} }),
  ...methodsOf('FullFineTuning', { decays, at }),
  ...methodsOf('AdapterSet', {
    layer,
    loadAdapter: { folder: path, options: optional(k.optionsOf<LoadAdapterOptions>({ as: text, name: text })) },
    setAdapter: { active },
    disableAdapter: {},
    enableAdapter: {},
    deleteAdapter: { name: text },
    hotswapAdapter: { folder: path, name: text, options: optional(adapterName) },
    addWeightedAdapter: { names: texts, weights: k.numbers, as: text, combination: optional(z.enum(['cat', 'linear'])) },
    mix: { names: k.listOf(text.nullable()) },
    list: {},
    dispose: {},
  }),
  ...methodsOf('MixedBatch', { encodeImage: { pixels: k.tensor }, encodeText: { tokens: k.tokens } }),
  ...methodsOf('ClassCrossEntropy', objective),
  ...methodsOf('InfoNceLoss', objective),
  ...methodsOf('MpmNceLoss', objective),
  ...methodsOf('AdamW', optimizer),
  ...methodsOf('Sgd', optimizer),
  ...methodsOf('Trainer', { run: { options: optional(k.optionsOf<RunOptions>({ signal: k.signal, resume: flag })) }, dispose: {} }),
  ...methodsOf('Dataset', { subset: { indices: k.iterable } }),
  ...methodsOf('DecodedImages', { of: { dataset: k.dataset } }),
  ...methodsOf('Moments', { add: { rows: k.floats } }),
  ...methodsOf('Gaussian', { logDensity: { rows: k.floats } }),
  ...methodsOf('TextBank', {
    scores: { queries: k.floats, classes, choice, visit: k.callback, options: encodeOptions },
    logitErrorBound: { classes, task: whole, options: encodeOptions },
  }),
  ...methodsOf('Tensor', { write: { data: k.bytes } }),
  ...methodsOf('Parameter', { trainable: { on: flag } }),
} satisfies Signatures

function methodsOf<N extends string, M extends Signatures>(name: N, methods: M): { [K in keyof M & string as `${N}.${K}`]: M[K] } {
  return Object.fromEntries(Object.entries(methods).map(([method, one]) => [`${name}.${method}`, one])) as never
}
