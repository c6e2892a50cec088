/**
 * Attention with a branch of extra keys and values against attention without: what the branch costs, and, with
 * peers/residual_attention.py, against two scaled_dot_product_attention and an addition in PyTorch.
 *
 *   node bench/residual-attention.mjs [--shape vision|text] [--dtype bf16|f32] [--branch separate|joint|none] [--slots 8]
 *                                     [--work forward|step|bank] [--batch 16] [--threads 1] [--repeat 8] [--serve]
 *
 * vision: 197 tokens, 12 heads of 64. text: 77 tokens, 8 heads of 64, causal. forward: no gradients. step: forward and
 * backward, gradients to qkv and to the bank. bank: gradients to the bank alone (the first block with a branch). One time is
 * that of --repeat calls. The protocol of --serve is in interleave.mjs.
 */
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { serveWork } from './worker.mjs'

const require = createRequire(import.meta.url)
const { backward, Parameter, step, synchronize, Tensor } = require('../dist/tensor.js')
const { attention, cast } = require('../dist/ops.js')
const { native } = require('../dist/native.js')

const { values: args } = parseArgs({
  options: {
    shape: { type: 'string', default: 'vision' },
    dtype: { type: 'string', default: 'bf16' },
    branch: { type: 'string', default: 'separate' },
    slots: { type: 'string', default: '8' },
    work: { type: 'string', default: 'step' },
    batch: { type: 'string', default: '16' },
    threads: { type: 'string', default: '1' },
    repeat: { type: 'string', default: '8' },
    serve: { type: 'boolean', default: false },
  },
})
native.setThreads(Number(args.threads))

const [tokens, heads] = args.shape === 'vision' ? [197, 12] : [77, 8]
const [batch, slots, d] = [Number(args.batch), Number(args.slots), heads * 64]
const drawn = (count, seed) => Float32Array.from({ length: count }, (_, i) => Math.sin(12.9898 * i + seed) * 1.5)
const parameter = (name, shape, trains) => {
  const count = shape.reduce((a, b) => a * b, 1)
  const p = Parameter.named(name, drawn(count, name.length), shape)
  p.trainable = trains
  return p
}
const training = args.work !== 'forward' && args.branch !== 'none'
const keys = parameter('keys', [1, slots, d], training)
const values = parameter('values!', [1, slots, d], training)
const keep = async (name, shape, data, dtype) => {
  const p = Parameter.named(name, null, shape, dtype)
  await step(() => native.copy(cast(Tensor.from(data, shape), dtype).id, p.id))
  return p
}
const m = batch * tokens
const offsets = Int32Array.from({ length: batch + 1 }, (_, b) => b * tokens)
const source = args.work === 'step' ? parameter('qkv', [m, 3 * d], true) : await keep('qkv', [m, 3 * d], drawn(m * 3 * d, 1), args.dtype)
const seed = await keep('seed', [m, d], drawn(m * d, 2), args.dtype)

function once() {
  return step(() => {
    // the cast of a trainable f32 qkv and its gradient are in both sides of a comparison, and small beside the attention
    const qkv = args.work === 'step' && args.dtype === 'bf16' ? cast(source, 'bf16') : source
    const extra = args.branch === 'none' ? undefined : { keys, values, softmax: args.branch }
    const rows = { offsets: Tensor.from(offsets, [batch + 1], 'i32'), batch, maxTokens: tokens }
    const y = attention(qkv, rows, { heads, causal: args.shape === 'text', extra })
    if (args.work === 'forward') return
    if (args.work === 'step' || training) backward([y], [seed])
    native.dropGradients()
  })
}

await serveWork(
  async () => {
    for (let i = 0; i < Number(args.repeat); i++) await once()
    await synchronize()
    return 0
  },
  { serve: args.serve, name: `cambium ${args.shape} ${args.dtype} ${args.branch} ${args.work}` },
)
