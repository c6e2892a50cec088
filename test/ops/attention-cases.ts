// Cases of attention: head widths from 1 to 128, ragged and empty samples, full and causal.
import * as ops from '../../lib/ops.js'
import { type Case, drawn, F32, indices, type Tolerance } from './case.js'
import { attention } from './reference.js'

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

export const attentionCases: readonly Case[] = [
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
