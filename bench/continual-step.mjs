/**
 * Our side of bench/peers/diki.py: a DIKI training step on both towers (residual attention in the first --depth blocks,
 * cross-entropy over all class texts, SGD) on the inputs that make_clip.py wrote.
 *
 *   node bench/continual-step.mjs --model DIR [--dtype bf16|f32] [--batch B] [--classes 10] [--frozen step|kept|none] [--last-block all|pooled]
 *        [--cut-text] [--text prompts|full] [--threads 2] [--dump FILE] [--serve]
 *
 * By default nothing is left out that the peer computes: the frozen encoder runs in every step, texts are padded to the
 * context, the last block computes all rows. --frozen kept takes the frozen features of a sample from the first time it was
 * seen (training has no augmentation, so that they are the same bits); none leaves them out. --cut-text cuts texts to their
 * length; --last-block pooled computes the pooled token alone. No option changes the loss. --dump writes loss, features and
 * gradients of the first step. The protocol of --serve is in interleave.mjs.
 */
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { PROMPT_TOKENS, readInputs } from './inputs.mjs'
import { serveWork } from './worker.mjs'

const require = createRequire(import.meta.url)
const { backward, Clip, noGradient, Parameter, scope, step, synchronize, Tensor } = require('../dist/index.js')
const { native } = require('../dist/native.js')
const { crossEntropy, l2Normalize, linear } = require('../dist/ops.js')
const { Sgd } = require('../dist/optim/sgd.js')

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    dtype: { type: 'string', default: 'bf16' },
    batch: { type: 'string' },
    classes: { type: 'string', default: '10' },
    depth: { type: 'string', default: '8' },
    length: { type: 'string', default: '8' },
    lr: { type: 'string', default: '5' },
    frozen: { type: 'string', default: 'step' },
    'last-block': { type: 'string', default: 'all' },
    'cut-text': { type: 'boolean', default: false },
    text: { type: 'string', default: 'prompts' },
    threads: { type: 'string', default: '2' },
    dump: { type: 'string' },
    serve: { type: 'boolean', default: false },
  },
})
native.setThreads(Number(args.threads))

const clip = await Clip.load(args.model, { dtype: args.dtype, lastBlock: args['last-block'] })
const sets = await readInputs(args.model)
const [classes, length] = [Number(args.classes), Number(args.length)]
const batch = Math.min(Number(args.batch ?? sets[0].shape[0]), sets[0].shape[0])
const shape = [batch, ...sets[0].shape.slice(1)]
const size = shape.reduce((a, b) => a * b)
const pixels = sets.map((set) => set.pixels.subarray(0, size))
const labels = sets.map((set) => set.labels.slice(0, batch).map((label) => label % classes))

/** As short as class prompts are, padded to the context. */
const asPrompt = (ids) => [...ids.slice(0, PROMPT_TOKENS - 1), ids.at(-1), ...Array(ids.length - PROMPT_TOKENS).fill(0)]
const texts = sets
  .flatMap((set) => set.ids)
  .slice(0, classes)
  .map((ids) => (args.text === 'full' ? ids : asPrompt(ids)))

/** Keys in (−1, 1) and small values by the formula that the peer uses. */
function bank(tower, layer, width) {
  const site = layer + (tower === 'text' ? 100 : 0)
  const make = (part, value) => {
    const parameter = Parameter.named(
      `${tower}.${layer}.${part}`,
      Float32Array.from({ length: length * width }, (_, i) => value(i)),
      [1, length, width],
    )
    parameter.trainable = true
    return parameter
  }
  return { keys: make('keys', (i) => Math.sin(0.37 * i + site)), values: make('values', (i) => 0.02 * Math.cos(0.73 * i + site)) }
}

const banks = Object.fromEntries(
  ['vision', 'text'].map((tower) => {
    const { hiddenSize, numHiddenLayers } = clip.config[tower]
    return [tower, Array.from({ length: Math.min(Number(args.depth), numHiddenLayers) }, (_, layer) => bank(tower, layer, hiddenSize))]
  }),
)
const injection = { layer: (tower, at) => (at < banks[tower].length ? { keyValues: banks[tower][at] } : undefined) }
const parameters = Object.values(banks).flatMap((tower) => tower.flatMap(({ keys, values }) => [keys, values]))
const optimizer = new Sgd(parameters)
const text = args['cut-text'] ? { dedupe: false } : { dedupe: false, cut: false }
const kept = new Map()

/** Frozen features, normalised: what a task's Gaussian is asked about. */
async function query(at) {
  if (args.frozen === 'none' || kept.has(at)) return
  const feature = scope(() => noGradient(() => l2Normalize(clip.encodeImage(Tensor.from(pixels[at], shape)))))
  const values = await feature.floats()
  feature.dispose()
  if (args.frozen === 'kept') kept.set(at, values)
}

function lossOf(image, words, at) {
  const logits = linear(l2Normalize(image), l2Normalize(words), { dtype: 'f32' })
  return crossEntropy(logits, { labels: Tensor.from(labels[at], [batch], 'i32'), scale: clip.logitScale, logScale: true })
}

let steps = 0

async function train() {
  const at = steps++ % sets.length
  await query(at)
  const { loss } = await step(() => {
    const loss = lossOf(clip.encodeImage(Tensor.from(pixels[at], shape), injection), clip.encodeText(texts, injection, text), at)
    backward(loss)
    optimizer.update(Number(args.lr))
    return { loss }
  })
  const value = await loss.item()
  loss.dispose()
  await synchronize()
  return value
}

/** Loss, features and gradients of the first input set, as JSON of numbers. */
async function dump(file) {
  const out = await step(() => {
    const image = clip.encodeImage(Tensor.from(pixels[0], shape), injection)
    const words = clip.encodeText(texts, injection, text)
    const loss = lossOf(image, words, 0)
    backward(loss)
    const read = (tensor) => tensor.floats()
    return {
      loss: read(loss),
      image_features: read(image),
      text_features: read(words),
      ...Object.fromEntries(parameters.map((p) => [`gradient.${p.name}`, read(p.gradient)])),
    }
  })
  const entries = await Promise.all(Object.entries(out).map(async ([name, values]) => [name, Array.from(await values)]))
  writeFileSync(file, JSON.stringify(Object.fromEntries(entries)))
}

if (args.dump) await dump(args.dump)
else
  await serveWork(train, {
    serve: args.serve,
    name: `Cambium ${args.dtype} DIKI`,
    parameters: parameters.reduce((sum, p) => sum + p.count, 0),
  })
