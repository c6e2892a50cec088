// Shapes for which the CUDA kernels take other ways than for the small ones of the case table: whole rows of scores of the
// lengths of CLIP's towers, sequences in pieces, large tiles of products in every layout, sums in several splits. float64
// would take minutes there: the CPU in f32 is the reference.
import type { FloatDType } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'
import { bf16Bits, floatsOfBf16 } from '../ops/bf16.js'
import { drawn, F32, given, type Input, indices, type Tolerance } from '../ops/case.js'
import { draw } from '../ops/check-case.js'
import { normals, seedOf } from '../ops/normals.js'

export interface Shape {
  readonly name: string
  readonly inputs: Readonly<Record<string, Input>>
  run(t: Record<string, Tensor>, dtype: FloatDType): Tensor
  readonly bf16: Tolerance
}

interface AttentionShape {
  lengths: readonly number[]
  heads?: number
  width?: number
  causal?: boolean
  /** extra keys, and their softmax */
  slots?: number
  softmax?: 'separate' | 'joint'
}

function attentionShape({ lengths, heads = 1, width = 64, causal = false, slots = 0, softmax = 'separate' }: AttentionShape): Shape {
  const offsets = [0]
  for (const length of lengths) offsets.push(offsets[offsets.length - 1] + length)
  const [d, tasks] = [heads * width, 2]
  const separate = softmax === 'separate'
  const inputs: Record<string, Input> = { qkv: drawn([offsets[lengths.length], 3 * d], { operand: true }), offsets: indices(offsets) }
  if (slots > 0) {
    Object.assign(inputs, {
      keys: drawn([tasks, slots, d]),
      values: drawn([tasks, slots, d]),
      index: indices(lengths.map((_, b) => (b + 1) % tasks)),
    })
    if (separate) inputs.weight = given(lengths.map((_, b) => 0.5 + b))
  }
  return {
    name: `attention of [${lengths}] tokens, ${heads} heads of ${width}${causal ? ', causal' : ''}${slots > 0 ? `, ${slots} slots, ${softmax}` : ''}`,
    inputs,
    run: (t) => {
      const extra = slots > 0 ? { keys: t.keys, values: t.values, softmax, index: t.index, weight: t.weight } : undefined
      return ops.attention(t.qkv, { batch: lengths.length, maxTokens: Math.max(...lengths), offsets: t.offsets }, { heads, causal, extra })
    },
    bf16: { forward: 5e-3, gradient: 1e-2 },
  }
}

interface LinearShape {
  rows: number
  from: number
  to: number
  transposed?: boolean
  rank?: number
}

/** With bias, activation or residual, and low-rank deltas of two adapters. */
function linearShape({ rows, from, to, transposed = false, rank = 0 }: LinearShape): Shape {
  const cut = Math.floor(rows / 3)
  const inputs: Record<string, Input> = {
    x: drawn([rows, from], { operand: true }),
    w: drawn(transposed ? [from, to] : [to, from], { operand: true, spread: 1 / Math.sqrt(from) }),
    bias: drawn([to]),
  }
  if (rank > 0)
    Object.assign(inputs, {
      a: drawn([2, rank, from], { spread: 1 / Math.sqrt(from) }),
      b: drawn([2, to, rank]),
      scale: given([0.5, 2]),
      index: indices([1, -1, 0]),
      offsets: indices([0, cut, cut + 7, rows]),
    })
  return {
    name: `linear [${rows},${from}] to ${to}${transposed ? ', transposed' : ''}${rank > 0 ? `, rank ${rank} by sample` : ''}`,
    inputs,
    run: (t, dtype) =>
      rank > 0
        ? ops.linear(t.x, t.w, {
            bias: t.bias,
            transposed,
            dtype,
            lowRank: [{ a: t.a, b: t.b, scale: t.scale, index: t.index }],
            rows: { offsets: t.offsets },
          })
        : ops.linear(t.x, t.w, { bias: t.bias, transposed, activation: 'quick_gelu', dtype }),
    bf16: { forward: rank > 0 ? 4e-3 : 2.5e-3, gradient: 5e-3 }, // deltas are rounded on their way: to rank R, and from it
  }
}

/** Several strips of either side, more than one piece of the width, blocks that share a strip. */
function contrastiveShape(n: number, p: number): Shape {
  return {
    name: `contrastive of ${n} pairs, width ${p}`,
    inputs: {
      image: drawn([n, p], { spread: 1 / Math.sqrt(p) }),
      text: drawn([n, p], { spread: 1 / Math.sqrt(p) }),
      labels: indices(Array.from({ length: n }, (_, i) => (i * i) % 97)),
      scale: given([Math.log(30)], { trains: true }),
    },
    run: (t) => ops.contrastive(t.image, t.text, { labels: t.labels, scale: t.scale, logScale: true, margin: 0.05, epsilon: 0.02 }),
    bf16: F32, // it is f32 in either
  }
}

export const shapes: readonly Shape[] = [
  attentionShape({ lengths: [50, 31], heads: 2 }),
  attentionShape({ lengths: [77, 20], causal: true }),
  attentionShape({ lengths: [197, 130] }),
  attentionShape({ lengths: [257] }),
  attentionShape({ lengths: [300, 5] }),
  attentionShape({ lengths: [300], causal: true }),
  attentionShape({ lengths: [150], width: 80 }),
  attentionShape({ lengths: [70, 90], width: 128, causal: true }),
  attentionShape({ lengths: [197, 50], slots: 8 }),
  attentionShape({ lengths: [77, 30], causal: true, slots: 70 }),
  attentionShape({ lengths: [300, 40], slots: 33, softmax: 'joint' }),
  linearShape({ rows: 1090, from: 72, to: 1030 }),
  linearShape({ rows: 1030, from: 1034, to: 40 }),
  linearShape({ rows: 40, from: 1030, to: 1090 }),
  linearShape({ rows: 1090, from: 72, to: 1032, transposed: true }),
  linearShape({ rows: 4100, from: 130, to: 136 }),
  linearShape({ rows: 700, from: 136, to: 72, rank: 6 }),
  contrastiveShape(330, 300),
  contrastiveShape(65, 129),
]

/** Result and gradients of a shape on this process's device; operands are rounded to bf16 also where they are f32. */
export async function outcome(shape: Shape, dtype: FloatDType): Promise<Record<string, Float32Array>> {
  const values = draw({ ...shape, reference: () => [] }, 'bf16')
  const parameters: Record<string, Parameter> = {}
  for (const [name, input] of Object.entries(shape.inputs)) {
    if (!input.trains) continue
    parameters[name] = Parameter.named(name, values[name], input.shape)
    parameters[name].trainable = true
  }
  const y = await step(() => {
    const inputs: Record<string, Tensor> = {}
    for (const [name, input] of Object.entries(shape.inputs)) {
      const parameter = parameters[name]
      if (parameter) inputs[name] = input.operand && dtype === 'bf16' ? ops.cast(parameter, 'bf16') : parameter
      else if (input.index) inputs[name] = Tensor.from(Int32Array.from(values[name]), input.shape, 'i32')
      else inputs[name] = Tensor.from(values[name], input.shape)
    }
    const result = shape.run(inputs, dtype)
    const count = result.shape.reduce((product, n) => product * n, 1)
    const seeds = floatsOfBf16(bf16Bits(Float32Array.from(normals(seedOf(shape.name), count))))
    backward([result], [Tensor.from(seeds, result.shape)])
    return result
  })
  const out: Record<string, Float32Array> = {
    result: y.dtype === 'bf16' ? floatsOfBf16((await y.data()) as Uint16Array) : await y.floats(),
  }
  y.dispose()
  for (const [name, parameter] of Object.entries(parameters)) {
    if (parameter.gradient) out[name] = await parameter.gradient.floats()
    parameter.gradient?.dispose()
    parameter.dispose()
  }
  return out
}
