// Cases of attention and pooled_attention: head widths from 1 to 128, ragged and empty samples, full and causal.
import * as ops from '../../lib/ops.js'
import { type Case, drawn, F32, indices, BF16 as ONE_ROUNDING, type Tolerance } from './case.js'
import { attention, pooledAttention } from './reference.js'

interface AttentionCase {
  lengths: readonly number[]
  heads: number
  width: number
  causal?: boolean
  spread?: number
}

/** Weights and their gradient are rounded to bf16 before the second product, the result and its gradient once more. */
const BF16: Tolerance = { forward: 5e-3, gradient: 1e-2 }
function attentionCase({ lengths, heads, width, causal = false, spread = 1 }: AttentionCase): Case {
  const offsets = [0]
  for (const length of lengths) offsets.push(offsets[offsets.length - 1] + length)
  const rows = { batch: lengths.length, maxTokens: Math.max(0, ...lengths) }
  return {
    name: `attention of [${lengths}] tokens, ${heads} heads of ${width}${causal ? ', causal' : ''}${spread === 1 ? '' : `, spread ${spread}`}`,
    inputs: {
      qkv: drawn([offsets[lengths.length], 3 * heads * width], { operand: true, spread }),
      offsets: indices(offsets),
    },
    run: (t) => ops.attention(t.qkv, { ...rows, offsets: t.offsets }, { heads, causal }),
    reference: (t, v) => attention(t, v.qkv, { heads, width, offsets, causal }),
    f32: F32,
    bf16: spread === 1 ? BF16 : { forward: 5e-3, gradient: 2e-2 }, // dP − delta cancels where one weight is nearly all
  }
}

interface PooledCase extends AttentionCase {
  /** of each sample, the position of its query */
  positions: readonly number[]
}

function pooledCase({ lengths, heads, width, positions, causal = false, spread = 1 }: PooledCase): Case {
  const offsets = [0]
  for (const length of lengths) offsets.push(offsets[offsets.length - 1] + length)
  const at = positions.map((position, b) => offsets[b] + position)
  const rows = { batch: lengths.length, maxTokens: Math.max(0, ...lengths) }
  const d = heads * width
  return {
    name: `pooled_attention at [${at}] of [${lengths}] tokens, ${heads} heads of ${width}${causal ? ', causal' : ''}${spread === 1 ? '' : `, spread ${spread}`}`,
    inputs: {
      q: drawn([lengths.length, d], { operand: true, spread }),
      kv: drawn([offsets[lengths.length], 2 * d], { operand: true, spread }),
      offsets: indices(offsets),
      at: indices(at),
    },
    run: (t) => ops.pooledAttention(t.q, t.kv, { ...rows, offsets: t.offsets }, t.at, { heads, causal }),
    reference: (t, v) => pooledAttention(t, v.q, v.kv, { heads, width, offsets, causal, rows: at }),
    f32: F32,
    bf16: ONE_ROUNDING,
  }
}

const pooledCases: readonly Case[] = [
  ...[1, 3, 16, 33, 64, 130].flatMap((width) => [
    pooledCase({ lengths: [5, 18], heads: 2, width, positions: [4, 0] }),
    pooledCase({ lengths: [5, 18], heads: 2, width, positions: [1, 17], causal: true }),
  ]),
  pooledCase({ lengths: [7, 1, 13], heads: 3, width: 5, positions: [0, 0, 12], causal: true }),
  pooledCase({ lengths: [50, 77], heads: 1, width: 16, positions: [0, 0] }),
  pooledCase({ lengths: [20, 3], heads: 2, width: 16, positions: [9, 2], spread: 6, causal: true }),
  pooledCase({ lengths: [], heads: 2, width: 4, positions: [] }),
]

export const attentionCases: readonly Case[] = [
  ...pooledCases,
  ...[1, 3, 7, 17, 32, 64, 80, 127, 128].flatMap((width) => [
    attentionCase({ lengths: [5, 18], heads: 2, width }),
    attentionCase({ lengths: [5, 18], heads: 2, width, causal: true }),
  ]),
  attentionCase({ lengths: [1, 7, 0, 13], heads: 3, width: 5 }),
  attentionCase({ lengths: [1, 7, 0, 13], heads: 3, width: 5, causal: true }),
  attentionCase({ lengths: [1, 1, 1], heads: 2, width: 9 }),
  attentionCase({ lengths: [50, 77], heads: 1, width: 16 }),
  attentionCase({ lengths: [77, 50], heads: 1, width: 16, causal: true }),
  attentionCase({ lengths: [97], heads: 1, width: 24 }),
  attentionCase({ lengths: [20], heads: 2, width: 16, spread: 6 }),
  attentionCase({ lengths: [20], heads: 2, width: 16, spread: 6, causal: true }),
  attentionCase({ lengths: [0, 0], heads: 2, width: 4 }),
]
