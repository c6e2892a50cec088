/**
 * Our side of the LoRA benchmark: the training step of bench/peers/lora.py (both towers, r = 8 on q and v, InfoNCE, AdamW) on
 * the inputs that make_clip.py wrote, or a forward pass of both towers in which each sample has its own adapter.
 *
 *   node bench/lora-step.mjs --model DIR [--dtype bf16|f32] [--rank 8] [--targets q_proj,v_proj] [--dora] [--threads 2]
 *                            [--work train|frozen|mix] [--adapters 8] [--less] [--serve]
 *
 * train: forward, loss, backward, AdamW. frozen: the forward alone, in a step whose only parameter is the scale.
 * mix: forward and backward of a bank of --adapters adapters, sample b taking adapter b mod T.
 * --less switches on what may be left out exactly: equal prompts once, text cut to its length, the last block for the pooled
 * token alone. The protocol of --serve is in interleave.mjs.
 */
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { readInputs } from './inputs.mjs'
import { serveWork } from './worker.mjs'

const require = createRequire(import.meta.url)
const { AdamW, backward, Clip, InfoNceLoss, step, synchronize, Tensor } = require('../dist/index.js')
const { Lora } = require('../dist/methods/lora.js')
const { Parameter } = require('../dist/tensor.js')
const { native } = require('../dist/native.js')

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    dtype: { type: 'string', default: 'bf16' },
    rank: { type: 'string', default: '8' },
    targets: { type: 'string', default: 'q_proj,v_proj' },
    dora: { type: 'boolean', default: false },
    threads: { type: 'string', default: '2' },
    work: { type: 'string', default: 'train' },
    adapters: { type: 'string', default: '8' },
    less: { type: 'boolean', default: false },
    serve: { type: 'boolean', default: false },
  },
})
native.setThreads(Number(args.threads))

const clip = await Clip.load(args.model, { dtype: args.dtype, lastBlock: args.less ? 'pooled' : 'all' })
const sets = await readInputs(args.model)
const rank = Number(args.rank)
const lora = await Lora.create(clip, { r: rank, alpha: 2 * rank, targets: args.targets.split(','), dora: args.dora })
const logitScale = Parameter.named('scale', await clip.logitScale.floats(), [1])
logitScale.trainable = args.work === 'frozen'
const objective = new InfoNceLoss(logitScale)

/** The adapters of `lora`, T times over with other numbers, as one bank; sample b has adapter b mod T. */
function bank(count, batch) {
  const parameters = []
  const banks = lora.modules.map((module) => {
    const many = (p) => {
      const values = Float32Array.from({ length: count * p.count }, (_, i) => 0.02 * Math.sin(i))
      const parameter = Parameter.named(p.name, values, [count, ...p.shape])
      parameter.trainable = true
      parameters.push(parameter)
      return parameter
    }
    const scale = Parameter.named('scale', new Float32Array(count).fill(module.scaling), [count])
    return { ...module, a: many(module.factors.a), b: many(module.factors.b), scale }
  })
  const index = Parameter.named(
    'index',
    Int32Array.from({ length: batch }, (_, b) => b % count),
    [batch],
    'i32',
  )
  const layer = (tower, at) => {
    const found = banks.filter((m) => m.tower === tower && m.layer === at)
    return { linears: Object.fromEntries(found.map(({ linear, a, b, scale }) => [linear, { lowRank: [{ a, b, scale, index }] }])) }
  }
  return { layer, parameters }
}

const method = args.work === 'mix' ? bank(Number(args.adapters), sets[0].shape[0]) : lora
const parameters = args.work === 'frozen' ? [logitScale] : method.parameters
const optimizer = new AdamW(parameters, { weightDecay: 0 })
const injection = args.work === 'frozen' ? undefined : method
const text = args.less && args.work !== 'mix' ? {} : { dedupe: false, cut: false }
let steps = 0

async function work() {
  const { pixels, shape, ids, labels } = sets[steps++ % sets.length]
  const { loss } = await step(() => {
    const image = clip.encodeImage(Tensor.from(pixels, shape), injection)
    const loss = objective.loss(image, clip.encodeText(ids, injection, text), Tensor.from(labels, [labels.length], 'i32'))
    backward(loss)
    optimizer.update(2e-4)
    return { loss }
  })
  const value = await loss.item()
  loss.dispose()
  await synchronize()
  return value
}

await serveWork(work, {
  serve: args.serve,
  name: `Cambium ${args.dtype} LoRA ${args.work}`,
  parameters: parameters.reduce((sum, p) => sum + p.count, 0),
})
