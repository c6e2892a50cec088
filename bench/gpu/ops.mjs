/**
 * Every kernel at the shapes of ViT-B/16, with its share of what the machine was measured to do in the same run: bytes against a
 * large copy, products against a large bf16 product.
 *
 *   node bench/gpu/ops.mjs [--batch 64] [--repeat 50] [--only TEXT] [--json]        CAMBIUM_PRODUCTS=own: without cuBLASLt
 *
 * A time is the median of five rounds of `repeat` calls between two waits, divided by their number: launches overlap, as in a step.
 * Bytes are those that must move (each operand once), operations those of the products.
 */
import { createRequire } from 'node:module'
import process from 'node:process'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { AdamW, backward, noGradient, Parameter, scope, step, synchronize, Tensor, useDevice } = require('../../dist/index.js')
const { native } = require('../../dist/native.js')
const ops = require('../../dist/ops.js')

const { values: args } = parseArgs({
  options: {
    batch: { type: 'string', default: '64' },
    repeat: { type: 'string', default: '50' },
    only: { type: 'string', default: '' },
    device: { type: 'string', default: 'cuda' },
    /** a fraction of every size, to try the program */
    shrink: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
})
useDevice(args.device)
const shrink = Number(args.shrink)
const batch = Number(args.batch)
const tokens = shrink > 1 ? 20 : 197
const width = 768 / shrink
const rows = batch * tokens
const repeat = Number(args.repeat)

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1]

let seed = 1
/** Numbers in [-1, 1): products of zeros would be faster. */
function random(count) {
  const numbers = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0
    numbers[i] = seed / 2 ** 31
  }
  return numbers
}
const f32 = (...shape) => Tensor.from(random(shape.reduce((a, b) => a * b)), shape)
const bf16 = (...shape) => {
  const wide = f32(...shape)
  const narrow = scope(() => ops.cast(wide, 'bf16'))
  wide.dispose()
  return narrow
}

async function time(work) {
  const round = async () => {
    const start = performance.now()
    // In one step: a third step would wait for the first, and small kernels for the host.
    await step(() => {
      for (let i = 0; i < repeat; i++) {
        scope(work)
        native.clearTape()
      }
    })
    await synchronize()
    return (performance.now() - start) / 1000 / repeat
  }
  await round()
  const seconds = []
  for (let i = 0; i < 5; i++) seconds.push(await round())
  return median(seconds)
}

/** Forward, and forward with backward to the first operand, of an op over tensors that live on. */
function both(name, cost, tensors, op) {
  const parameter = Parameter.named('x', null, tensors[0].shape)
  parameter.trainable = true
  return [
    { name, ...cost, work: () => void noGradient(() => op(...tensors)) },
    {
      name: `${name}, with backward`,
      bytes: cost.bytes && 3 * cost.bytes,
      flops: cost.flops && 2 * cost.flops,
      work: () => {
        const [, ...others] = tensors
        const x = tensors[0].dtype === 'bf16' ? ops.cast(parameter, 'bf16') : parameter
        backward(ops.mean(ops.cast(op(x, ...others), 'f32')))
        native.dropGradients()
      },
    },
  ]
}

const large = shrink > 1 ? 128 : 8192
const a = bf16(large, large)
const b = bf16(large, large)
const from = f32(1 << (shrink > 1 ? 16 : 28))
const to = Tensor.zeros(from.shape)
const limits = {
  copy: (8 * from.count) / (await time(() => native.copy(from.id, to.id))),
  product: (2 * large ** 3) / (await time(() => void noGradient(() => ops.linear(a, b, { dtype: 'bf16' })))),
}
for (const t of [a, b, from, to]) t.dispose()

const offsets = Tensor.from(
  Int32Array.from({ length: batch + 1 }, (_, i) => i * tokens),
  [batch + 1],
  'i32',
)
const layout = { offsets, batch, maxTokens: tokens }
const heads = width / 64
const x = f32(rows, width)
const h = bf16(rows, width)
const wide = bf16(rows, 4 * width)
const qkv = bf16(rows, 3 * width)
const weight = (out, inner) => bf16(out, inner)
const bias = (n) => f32(n)
const attentionFlops = 4 * batch * heads * tokens * tokens * 64
const labels = Tensor.from(
  Int32Array.from({ length: batch }, (_, i) => i),
  [batch],
  'i32',
)
const scale = Tensor.scalar(10)
const ids = (count, below) =>
  Tensor.from(
    Int32Array.from({ length: count }, (_, i) => (Math.imul(i + 1, 40503) % below) & 0x7fffffff),
    [count],
    'i32',
  )
const first = Tensor.from(
  Int32Array.from({ length: batch }, (_, i) => i * tokens),
  [batch],
  'i32',
)
const side = shrink > 1 ? 32 : 224
const patch = shrink > 1 ? 8 : 16
const patches = (side / patch) ** 2
const vocabulary = Math.round(49408 / shrink)
const slots = { keys: f32(1, 8, width), values: f32(1, 8, width) }

/** One update of a parameter, and the gradient of a sum before it: written, read; weight, both moments, average: read, written. */
function update() {
  const parameter = Parameter.named('trained', null, [14 * width, width])
  parameter.trainable = true
  const optimizer = new AdamW([parameter], { average: true })
  return {
    name: 'adamw with average',
    bytes: 44 * parameter.count,
    work: () => {
      backward(ops.sum(parameter))
      optimizer.update(1e-4, 0.999)
    },
  }
}
const list = [
  ...both('layer_norm', { bytes: rows * width * 6 }, [x, bias(width), bias(width)], (t, w, c) => ops.layerNorm(t, w, c, 1e-5, 'bf16')),
  ...both('linear to 3D, bias', { flops: 6 * rows * width * width }, [h, weight(3 * width, width), bias(3 * width)], (t, w, c) =>
    ops.linear(t, w, { bias: c, dtype: 'bf16' }),
  ),
  ...both('linear to 4D, bias, QuickGELU', { flops: 8 * rows * width * width }, [h, weight(4 * width, width), bias(4 * width)], (t, w, c) =>
    ops.linear(t, w, { bias: c, activation: 'quick_gelu', dtype: 'bf16' }),
  ),
  ...both('linear from 4D, residual', { flops: 8 * rows * width * width }, [wide, weight(width, 4 * width), x], (t, w, r) =>
    ops.linear(t, w, { residual: r, dtype: 'f32' }),
  ),
  ...both('attention', { flops: attentionFlops }, [qkv], (t) => ops.attention(t, layout, { heads })),
  ...both('contrastive, 512 wide', { flops: 2 * batch * batch * 512 }, [f32(batch, 512), f32(batch, 512), labels], (t, u, l) =>
    ops.contrastive(t, u, { labels: l, scale }),
  ),
  ...both('attention with 8 extra keys', { flops: attentionFlops + 4 * batch * heads * tokens * 8 * 64 }, [qkv], (t) =>
    ops.attention(t, layout, { heads, extra: slots }),
  ),
  ...both('pooled attention', { bytes: rows * width * 4 }, [bf16(batch, width), bf16(rows, 2 * width)], (q, kv) =>
    ops.pooledAttention(q, kv, layout, first, { heads }),
  ),
  ...both('l2_normalize', { bytes: rows * width * 8 }, [x], (t) => ops.l2Normalize(t)),
  ...both('cross_entropy, 1000 classes', { bytes: batch * 4000 }, [f32(batch, 1000), labels], (t, l) => ops.crossEntropy(t, { labels: l })),
  {
    name: 'patchify',
    bytes: batch * 3 * side * side * 6,
    work: (
      (pixels) => () =>
        void noGradient(() => ops.patchify(pixels, patch, 'bf16'))
    )(f32(batch, 3, side, side)),
  },
  ...both(
    'class_tokens',
    { bytes: batch * (2 * patches + 1) * width * 4 },
    [f32(batch * patches, width), f32(width), f32(patches + 1, width)],
    (t, c, p) => ops.classTokens(t, c, p, batch),
  ),
  ...both(
    'token_embed',
    { bytes: rows * width * 12 },
    [f32(vocabulary, width), f32(77, width), ids(rows, vocabulary), ids(rows, 77)],
    (t, p, i, j) => ops.tokenEmbed(i, j, t, p),
  ),
  ...both('gather_rows', { bytes: rows * width * 8 }, [x, ids(rows, rows)], (t, i) => ops.gatherRows(t, i)),
  ...both('scale_rows', { bytes: rows * width * 8 }, [x, f32(rows)], (t, u) => ops.scaleRows(t, u)),
  ...both('multiply', { bytes: rows * width * 12 }, [x, x], (t, u) => ops.multiply(t, u)),
  update(),
  ...both('cast', { bytes: rows * width * 6 }, [x], (t) => ops.cast(t, 'bf16')),
  ...both('add', { bytes: rows * width * 12 }, [x, x], (t, u) => ops.add(t, u)),
]

const results = []
for (const { name, bytes, flops, work } of list.filter((one) => one.name.includes(args.only))) {
  const seconds = await time(work)
  const share = flops ? flops / seconds / limits.product : bytes / seconds / limits.copy
  results.push({ name, microseconds: seconds * 1e6, share })
}
const facts = { ...native.backendInfo(), copyGBs: limits.copy / 1e9, productTFLOPs: limits.product / 1e12, batch }
if (args.json) process.stdout.write(`${JSON.stringify({ ...facts, results })}\n`)
else {
  process.stdout.write(
    `${facts.name ?? facts.device}; copy ${facts.copyGBs.toFixed(0)} GB/s, product ${facts.productTFLOPs.toFixed(1)} TFLOP/s\n`,
  )
  for (const { name, microseconds, share } of results)
    process.stdout.write(`${name.padEnd(46)} ${microseconds.toFixed(1).padStart(10)} µs  ${(100 * share).toFixed(0).padStart(4)} %\n`)
}
