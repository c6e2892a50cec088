/**
 * Our side of the step benchmark: the R-Adapter training step of bench/peers/step.py (both towers, full rank, p = 0,
 * 77 tokens a text, AdamW, EMA), inference on the merged model, or classification, on the inputs that make_clip.py wrote.
 *
 *   node bench/step.mjs --model DIR [--dtype bf16|f32] [--work train|infer|classify] [--threads 2] [--batch B] [--serve]
 *        [--tower image|text|both] [--last-block all|pooled] [--keep-packed] [--save-text] [--dedupe] [--cut]
 *        [--text full|prompts] [--drop P] [--checkpoint none|blocks] [--classes 64] [--cached-text] [--device cuda] [--graph] [--dump FILE]
 *
 * By default nothing is left out that PyTorch computes. --last-block pooled and --save-text (equal prompts once: --dedupe, text cut
 * to its length: --cut) leave out what changes no result; --drop P drops adapters as the paper does. Texts fill the context
 * (--text full), or are 11 tokens long and four different ones in a batch, as class prompts are. infer encodes one --tower or
 * one after the other; its number is the mean square of the features, as the peers' is. classify takes the cosines of images
 * with --classes prompts of 11 tokens, encoding these with every batch, or once with --cached-text, as the library does; its
 * number is the largest. --graph captures the step of each input set and replays it (a GPU only). --dump writes loss, features and
 * gradients of the first step, as step.py does (errors.mjs). The protocol of --serve is in interleave.mjs.
 */
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { classPrompts, readInputs } from './inputs.mjs'
import { serveWork } from './worker.mjs'

const require = createRequire(import.meta.url)
const { AdamW, backward, capture, Clip, MpmNceLoss, noGradient, RAdapter, scope, step, synchronize, Tensor } = require('../dist/index.js')
const { native } = require('../dist/native.js')
const { writeSafetensors } = require('../dist/formats/safetensors-write.js')
const { add, l2Normalize, linear, multiply, sum } = require('../dist/ops.js')

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    dtype: { type: 'string', default: 'bf16' },
    work: { type: 'string', default: 'train' },
    tower: { type: 'string', default: 'image' },
    classes: { type: 'string', default: '64' },
    'cached-text': { type: 'boolean', default: false },
    threads: { type: 'string', default: '2' },
    'keep-packed': { type: 'boolean', default: false },
    'save-text': { type: 'boolean', default: false },
    dedupe: { type: 'boolean', default: false },
    cut: { type: 'boolean', default: false },
    'last-block': { type: 'string', default: 'all' },
    checkpoint: { type: 'string', default: 'none' },
    drop: { type: 'string', default: '0' },
    batch: { type: 'string' },
    text: { type: 'string', default: 'full' },
    device: { type: 'string', default: 'cpu' },
    graph: { type: 'boolean', default: false },
    dump: { type: 'string' },
    serve: { type: 'boolean', default: false },
  },
})
native.setThreads(Number(args.threads))

const clip = await Clip.load(args.model, {
  device: args.device,
  dtype: args.dtype,
  lastBlock: args['last-block'],
  checkpoint: args.checkpoint,
  keepPacked: args['keep-packed'],
})
const sets = await readInputs(args.model, { batch: args.batch && Number(args.batch), text: args.text })
const textOptions = { dedupe: args['save-text'] || args.dedupe, cut: args['save-text'] || args.cut }
// The peer on a GPU has its inputs there from the start (gpu/peer.py), and so has ours. On the CPU they are made when they are used.
const resident = args.device === 'cpu' ? [] : sets.map(({ pixels, shape }) => Tensor.from(pixels, shape))
const pixelsOf = (set) => resident[set] ?? Tensor.from(sets[set].pixels, sets[set].shape)
let steps = 0

function trainer() {
  const adapter = new RAdapter(clip, { drop: Number(args.drop) })
  const objective = new MpmNceLoss()
  const optimizer = new AdamW(adapter.parameters, { average: true })
  /** pixels: gives the tensor; made there, it goes as soon as the patches are there */
  const loss = (pixels, ids, labels) => {
    const value = objective.loss(
      scope(() => clip.encodeImage(pixels(), adapter)),
      clip.encodeText(ids, adapter, textOptions),
      labels,
    )
    backward(value)
    return value
  }
  if (args.graph) return captured(adapter, optimizer, loss)
  return async () => {
    const set = steps % sets.length
    const { ids, labels } = sets[set]
    adapter.draw(0, steps++)
    const result = await step(() => {
      const value = loss(() => pixelsOf(set), ids, Tensor.from(labels, [labels.length], 'i32'))
      optimizer.update(5e-4, 0.999)
      return value
    })
    const value = await result.item()
    result.dispose()
    await synchronize()
    return value
  }
}

/** Texts are part of a captured step, so each input set has a graph of its own; all of them share one memory. */
function captured(adapter, optimizer, loss) {
  const replayed = capture(([pixels, labels], set) => {
    const value = loss(() => pixels, sets[set].ids, labels)
    optimizer.apply()
    return [value]
  })
  return async () => {
    const set = steps++ % sets.length
    const labels = Tensor.from(sets[set].labels, [sets[set].labels.length], 'i32')
    adapter.draw(0, steps - 1)
    optimizer.prepare(5e-4, 0.999)
    const [result] = await replayed.run([pixelsOf(set), labels], set)
    const value = await result.item()
    labels.dispose()
    result.dispose()
    await synchronize()
    return value
  }
}

async function infer() {
  const set = steps++ % sets.length
  const { ids } = sets[set]
  const encoders = {
    image: () => clip.encodeImage(pixelsOf(set)),
    text: () => clip.encodeText(ids, undefined, textOptions),
  }
  const towers = args.tower === 'both' ? ['image', 'text'] : [args.tower]
  const norm2 = inference(() =>
    towers
      .map((tower) => {
        const features = encoders[tower]()
        return sum(multiply(features, features), 1 / features.count)
      })
      .reduce((a, b) => add(a, b)),
  )
  const value = await norm2.item()
  norm2.dispose()
  return value
}

/** Cosines of images with class prompts. */
function classifier() {
  const prompts = classPrompts(sets, Number(args.classes))
  const head = () => inference(() => l2Normalize(clip.encodeText(prompts, undefined, textOptions)))
  const kept = args['cached-text'] ? head() : undefined
  return async () => {
    const { pixels, shape } = sets[steps++ % sets.length]
    const classes = kept ?? head()
    const scores = inference(() => linear(l2Normalize(clip.encodeImage(Tensor.from(pixels, shape))), classes, { dtype: 'f32' }))
    const values = await scores.floats()
    scores.dispose()
    if (!kept) classes.dispose()
    return Math.max(...values)
  }
}

/** The first step as far as the gradients. */
async function dump(file) {
  const adapter = new RAdapter(clip, {})
  const { pixels, shape, ids, labels } = sets[0]
  const results = await step(() => {
    const image = clip.encodeImage(Tensor.from(pixels, shape), adapter)
    const text = clip.encodeText(ids, adapter, textOptions)
    const loss = new MpmNceLoss().loss(image, text, Tensor.from(labels, [labels.length], 'i32'))
    backward(loss)
    return [loss, image, text]
  })
  const named = [...['loss', 'image_features', 'text_features'].map((name, i) => [name, results[i]])]
  for (const parameter of adapter.parameters) named.push([`gradient.${parameter.name.replace(/\.w$/, '')}`, parameter.gradient])
  const tensors = await Promise.all(
    named.map(async ([name, tensor]) => {
      const values = await tensor.floats()
      return { name, dtype: 'F32', shape: tensor.shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
    }),
  )
  await writeSafetensors(file, tensors)
}

const inference = (forward) => scope(() => noGradient(forward))

const works = { train: trainer, infer: () => infer, classify: classifier }
if (args.dump) await dump(args.dump)
else
  await serveWork(works[args.work](), {
    serve: args.serve,
    name: `Cambium ${args.dtype} ${args.work}${args.work === 'infer' ? `, ${args.tower}` : ''}`,
    batch: sets[0].shape[0],
  })
