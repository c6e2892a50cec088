// Cases of linear with low-rank deltas: one and several, at columns, of ranks that fit no panel, with biases, inputs of their
// own, an adapter for each sample, and a column scale; sums that are cut into pieces.
import type { FloatDType } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import type { Tensor } from '../../lib/tensor.js'
import { type Case, drawn, F32, given, type Input, indices, type Tolerance } from './case.js'
import { type ActivationName, type LowRankReference, linear } from './reference.js'

interface Delta {
  rank: number
  /** [first column, end) */
  columns?: readonly [number, number]
  scale?: number
  bias?: boolean
  /** reads an x of its own */
  own?: boolean
}

interface LowRankCase {
  /** rows of each sample */
  rows: readonly number[]
  in: number
  out: number
  deltas: readonly Delta[]
  /** adapter of each sample, of `bank` */
  index?: readonly number[]
  bank?: number
  columnScale?: boolean
  activation?: ActivationName
  bias?: boolean
  residual?: boolean
  transposed?: boolean
  skipIsX?: boolean
  result?: FloatDType
  bf16?: Tolerance
}

function deltaInputs(o: LowRankCase, inputs: Record<string, Input>): void {
  const m = total(o.rows)
  const bank = o.index ? [o.bank ?? 1] : []
  const spread = 1 / Math.sqrt(o.in)
  o.deltas.forEach((d, i) => {
    const [first, end] = d.columns ?? [0, o.out]
    inputs[`a${i}`] = drawn([...bank, d.rank, o.in], { spread })
    inputs[`b${i}`] = drawn([...bank, end - first, d.rank], { spread: 1 / Math.sqrt(d.rank) })
    inputs[`scale${i}`] = given(Array.from({ length: o.bank ?? 1 }, (_, t) => (d.scale ?? 1) * (1 - 0.25 * t)))
    if (d.bias) inputs[`bias${i}`] = drawn([...bank, end - first])
    if (d.own) inputs[`x${i}`] = drawn([m, o.in], { operand: true })
  })
}

const total = (rows: readonly number[]) => rows.reduce((a, b) => a + b, 0)
const offsetsOf = (rows: readonly number[]) => [0, ...rows.map((_, i) => total(rows.slice(0, i + 1)))]

function run(o: LowRankCase, t: Record<string, Tensor>, dtype: FloatDType): Tensor {
  return ops.linear(t.x, t.w, {
    bias: t.bias,
    residual: t.residual,
    skip: o.skipIsX ? t.x : undefined,
    transposed: o.transposed,
    activation: o.activation,
    dtype: o.result ?? dtype,
    columnScale: t.columnScale,
    rows: o.index && { offsets: t.offsets },
    lowRank: o.deltas.map((d, i) => ({
      a: t[`a${i}`],
      b: t[`b${i}`],
      scale: t[`scale${i}`],
      bias: t[`bias${i}`],
      x: t[`x${i}`],
      column: d.columns?.[0],
      index: o.index && t.index,
    })),
  })
}

function lowRankCase(o: LowRankCase): Case {
  const m = total(o.rows)
  const inputs: Record<string, Input> = {
    x: drawn([m, o.in], { operand: true }),
    w: drawn(o.transposed ? [o.in, o.out] : [o.out, o.in], { operand: true, spread: 1 / Math.sqrt(o.in) }),
  }
  if (o.bias) inputs.bias = drawn([o.out])
  if (o.residual) inputs.residual = drawn([m, o.out])
  if (o.columnScale) inputs.columnScale = drawn([o.out], { centre: 1, spread: 0.2 })
  if (o.index) {
    inputs.index = indices(o.index)
    inputs.offsets = indices(offsetsOf(o.rows))
  }
  deltaInputs(o, inputs)
  const words = o.deltas.map((d) =>
    [`rank ${d.rank}`, d.columns && `in [${d.columns}]`, d.bias && 'with bias', d.own && 'of its own x'].filter(Boolean).join(' '),
  )
  for (const word of ['columnScale', 'bias', 'residual', 'transposed', 'skipIsX'] as const) if (o[word]) words.push(word)
  if (o.activation) words.push(o.activation)
  if (o.index) words.push(`adapters [${o.index}] of ${o.bank}`)
  return {
    name: `low_rank [${o.rows.length > 1 ? `${m} = ${o.rows.join('+')}` : m}, ${o.in}] to ${o.out}, ${words.join(', ')}`,
    inputs,
    run: (t, dtype) => run(o, t, dtype),
    reference: (t, v) =>
      linear(t, v.x, v.w, {
        in: o.in,
        out: o.out,
        transposed: o.transposed,
        activation: o.activation,
        bias: v.bias,
        residual: v.residual,
        skip: o.skipIsX ? v.x : undefined,
        columnScale: v.columnScale,
        adapters: o.index && o.rows.flatMap((n, i) => Array(n).fill(o.index?.[i])),
        lowRank: o.deltas.map((d, i): LowRankReference => {
          const [column, end] = d.columns ?? [0, o.out]
          const [a, b, scale, bias, x] = ['a', 'b', 'scale', 'bias', 'x'].map((name) => v[`${name}${i}`])
          return { a, b, scale, bias, x, rank: d.rank, column, out: end - column }
        }),
      }),
    f32: F32,
    bf16: o.bf16 ?? { forward: 3.5e-3, gradient: 6e-3 },
  }
}

const sizes: LowRankCase[] = [
  { rows: [37], in: 50, out: 29, deltas: [{ rank: 3, scale: 0.5 }], bias: true },
  { rows: [1], in: 64, out: 70, deltas: [{ rank: 8 }] },
  { rows: [130], in: 40, out: 33, deltas: [{ rank: 35, scale: 2 }], bias: true },
  {
    rows: [60],
    in: 33,
    out: 90,
    deltas: [
      { rank: 8, columns: [0, 30] },
      { rank: 5, columns: [60, 90], scale: 0.75 },
    ],
    bias: true,
  },
  {
    rows: [44],
    in: 24,
    out: 96,
    deltas: [
      { rank: 16, columns: [0, 32] },
      { rank: 4, columns: [16, 64] },
      { rank: 20, columns: [64, 96] },
    ],
  },
  {
    rows: [30],
    in: 12,
    out: 20,
    deltas: [
      { rank: 2, bias: true, scale: 0.3 },
      { rank: 3, bias: true, columns: [4, 11] },
    ],
    transposed: true,
  },
  { rows: [29], in: 20, out: 20, deltas: [{ rank: 4 }], residual: true, skipIsX: true, result: 'f32' },
  { rows: [9], in: 2100, out: 5, deltas: [{ rank: 2, bias: true }] }, // an f32 sum in pieces
  { rows: [3], in: 5, out: 4200, deltas: [{ rank: 2, columns: [4000, 4100] }] }, // and a bf16 one, in backward
  { rows: [0], in: 8, out: 6, deltas: [{ rank: 2, bias: true }], bias: true },
]

const own: LowRankCase[] = [
  { rows: [40], in: 18, out: 25, deltas: [{ rank: 3, own: true, scale: 0.5 }], bias: true },
  {
    rows: [31],
    in: 16,
    out: 48,
    deltas: [
      { rank: 4, own: true, bias: true, columns: [0, 16] },
      { rank: 6, columns: [16, 32] },
    ],
  },
  { rows: [5, 9, 4], in: 16, out: 21, deltas: [{ rank: 4, own: true, bias: true }, { rank: 2 }], index: [1, -1, 0], bank: 2 },
]

const mixed: LowRankCase[] = [
  { rows: [7, 20, 1, 16], in: 30, out: 40, deltas: [{ rank: 4 }], index: [2, 0, 2, 1], bank: 3, bias: true },
  {
    rows: [17, 17, 17],
    in: 24,
    out: 36,
    deltas: [
      { rank: 3, columns: [0, 12] },
      { rank: 5, columns: [24, 36] },
    ],
    index: [3, -1, 1],
    bank: 5,
  },
  { rows: [2, 3, 2, 2, 3, 1, 2], in: 20, out: 10, deltas: [{ rank: 2, bias: true }], index: [0, 1, 2, 3, 4, 0, 2], bank: 6 },
  { rows: [4, 0, 5], in: 2100, out: 6, deltas: [{ rank: 2 }], index: [1, 0, 0], bank: 2 },
]

const scaled: LowRankCase[] = [
  { rows: [40], in: 25, out: 31, deltas: [{ rank: 4, scale: 0.5 }], columnScale: true, bias: true },
  { rows: [33], in: 24, out: 40, deltas: [{ rank: 4 }], columnScale: true, bias: true, activation: 'quick_gelu' },
  { rows: [20], in: 24, out: 24, deltas: [{ rank: 4, bias: true }], columnScale: true, residual: true, result: 'f32' },
  { rows: [20], in: 24, out: 24, deltas: [], columnScale: true, bias: true },
  { rows: [22], in: 12, out: 30, deltas: [{ rank: 3 }], bias: true, activation: 'gelu' },
]

export const lowRankCases: readonly Case[] = [
  ...[...sizes, ...own, ...mixed].map(lowRankCase),
  ...scaled.map((o) => lowRankCase({ ...o, bf16: { forward: 4e-3, gradient: 8e-3 } })),
]
