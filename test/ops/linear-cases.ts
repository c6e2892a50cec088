// Cases of linear: sizes, both orientations of the weight, activations, gates, residual and skip.
import type { FloatDType } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import { BF16, type Case, drawn, F32, given, type Input, type Tolerance } from './case.js'
import { type ActivationName, linear } from './reference.js'

interface LinearCase {
  x: readonly number[]
  out: number
  transposed?: boolean
  activation?: ActivationName
  bias?: boolean
  gate?: number
  residual?: boolean
  skip?: 'own' | 'x'
  /** type of the result in the bf16 run */
  result?: FloatDType
  bf16?: Tolerance
}

function linearCase(o: LinearCase): Case {
  const features = o.x[o.x.length - 1]
  const shape = [...o.x.slice(0, -1), o.out]
  const inputs: Record<string, Input> = {
    x: drawn(o.x, { operand: true }),
    w: drawn(o.transposed ? [features, o.out] : [o.out, features], { operand: true, spread: 1 / Math.sqrt(features) }),
  }
  if (o.bias) inputs.bias = drawn([o.out])
  if (o.gate !== undefined) inputs.gate = given([o.gate])
  if (o.residual) inputs.residual = drawn(shape)
  if (o.skip === 'own') inputs.skip = drawn(shape, { operand: true })
  const words = Object.entries({ transposed: o.transposed, bias: o.bias, residual: o.residual })
    .filter(([, on]) => on)
    .map(([name]) => name)
  if (o.activation) words.push(o.activation)
  if (o.gate !== undefined) words.push(`gate ${o.gate}`)
  if (o.skip) words.push(o.skip === 'x' ? 'skip is x' : 'skip')
  if (o.result) words.push(`to ${o.result}`)
  return {
    name: `linear [${o.x}] to ${o.out}${words.map((word) => `, ${word}`).join('')}`,
    inputs,
    run: (t, dtype) =>
      ops.linear(t.x, t.w, {
        bias: t.bias,
        gate: t.gate,
        residual: t.residual,
        skip: o.skip === 'x' ? t.x : t.skip,
        transposed: o.transposed,
        activation: o.activation,
        dtype: o.result ?? dtype,
      }),
    reference: (t, v) =>
      linear(t, v.x, v.w, {
        in: features,
        out: o.out,
        transposed: o.transposed,
        activation: o.activation,
        bias: v.bias,
        gate: v.gate?.[0],
        residual: v.residual,
        skip: o.skip === 'x' ? v.x : v.skip,
      }),
    f32: F32,
    bf16: o.bf16 ?? (o.result === 'f32' ? { forward: 1e-5, gradient: 4e-3 } : BF16),
  }
}

const sizes: LinearCase[] = [
  { x: [37, 50], out: 29, bias: true },
  { x: [1, 300], out: 1, bias: true },
  { x: [300, 4], out: 64 },
  { x: [300, 64], out: 4 },
  { x: [7, 1], out: 5 },
  { x: [3, 5], out: 1 },
  { x: [64, 64], out: 64 },
  { x: [5, 1100], out: 9, bias: true },
  { x: [3, 20], out: 700 },
  { x: [900, 10], out: 12 },
  { x: [2, 5000], out: 3, bias: true }, // sums that are cut, here and in dW of the next
  { x: [4500, 3], out: 5 },
  { x: [2, 5, 12], out: 7 },
  { x: [130, 36], out: 50, bias: true, residual: true, result: 'f32' },
  { x: [0, 8], out: 6, bias: true },
]

const activations = (['quick_gelu', 'gelu'] as const).flatMap((activation): LinearCase[] => [
  { x: [33, 24], out: 17, bias: true, activation, bf16: { forward: 2.5e-3, gradient: 6e-3 } },
  { x: [9, 24], out: 40, activation, transposed: true, bf16: { forward: 2.5e-3, gradient: 6e-3 } },
  { x: [9, 24], out: 20, bias: true, activation, gate: 0, bf16: { forward: 2.5e-3, gradient: 6e-3 } },
])

const addends = [0, 1, 1.25].flatMap((gate): LinearCase[] => [
  { x: [40, 33], out: 33, gate, skip: 'x' },
  { x: [40, 33], out: 33, gate, residual: true, skip: 'x', result: 'f32' },
  { x: [40, 33], out: 33, gate, residual: true, skip: 'own', bias: true, transposed: true, result: 'f32' },
  { x: [21, 16], out: 30, gate, residual: true, result: 'f32' },
  { x: [21, 16], out: 30, gate, bias: true },
])

export const linearCases: readonly Case[] = [
  ...sizes.map(linearCase),
  ...sizes.map((size) => linearCase({ ...size, transposed: true })),
  ...activations.map(linearCase),
  ...addends.map(linearCase),
]
