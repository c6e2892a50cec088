// Cases of attention and pooled_attention with extra keys and values: separate and joint, several tasks, weights with zeros.
import * as ops from '../../lib/ops.js'
import type { Tensor } from '../../lib/tensor.js'
import { type Case, drawn, F32, given, type Input, indices, BF16 as ONE_ROUNDING, type Tolerance } from './case.js'
import { attention, type BranchReference, pooledAttention, type Values } from './reference.js'

interface BranchCase {
  lengths: readonly number[]
  heads: number
  width: number
  slots: number
  causal?: boolean
  joint?: boolean
  /** the task of each sample; default: one task, no index */
  tasks?: readonly number[]
  weights?: readonly number[]
  /** of each sample, the position of its one query: pooled_attention */
  positions?: readonly number[]
  spread?: number
}

/** As of attention; the slots add two products with operands rounded to bf16. */
const BF16: Tolerance = { forward: 5e-3, gradient: 1e-2 }

function branchCase(c: BranchCase): Case {
  const { lengths, heads, width, slots, causal = false, joint = false, tasks, weights, positions, spread = 1 } = c
  const offsets = [0]
  for (const length of lengths) offsets.push(offsets[offsets.length - 1] + length)
  const total = offsets[lengths.length]
  const rows = { batch: lengths.length, maxTokens: Math.max(0, ...lengths) }
  const d = heads * width
  const at = (positions ?? []).map((position, b) => offsets[b] + position)
  const bank = [tasks ? Math.max(...tasks) + 2 : 1, slots, d] // one task that nobody has
  const inputs: Record<string, Input> = positions
    ? { q: drawn([lengths.length, d], { operand: true, spread }), kv: drawn([total, 2 * d], { operand: true }), at: indices(at) }
    : { qkv: drawn([total, 3 * d], { operand: true, spread }) }
  const extra = (t: Record<string, Tensor>) => ({
    keys: t.keys,
    values: t.values,
    index: tasks && t.tasks,
    weight: weights && t.weights,
    softmax: joint ? ('joint' as const) : ('separate' as const),
  })
  const branch = (v: Record<string, Values>): BranchReference => ({
    keys: v.keys,
    values: v.values,
    length: slots,
    index: tasks,
    weight: weights && v.weights,
    joint,
  })
  const options = [
    causal && 'causal',
    joint && 'joint',
    tasks && `tasks [${tasks}]`,
    weights && `weights [${weights}]`,
    spread !== 1 && 'spread',
  ]
  return {
    name: `${positions ? `pooled_attention at [${at}]` : 'attention'} of [${lengths}] tokens, ${heads} heads of ${width}, ${slots} slots, ${options.filter(Boolean).join(', ')}`,
    inputs: {
      ...inputs,
      offsets: indices(offsets),
      keys: drawn(bank),
      values: drawn(bank),
      ...(tasks && { tasks: indices(tasks) }),
      ...(weights && { weights: given(weights) }),
    },
    run: (t) => {
      const given = { heads, causal, extra: extra(t) }
      if (positions) return ops.pooledAttention(t.q, t.kv, { ...rows, offsets: t.offsets }, t.at, given)
      return ops.attention(t.qkv, { ...rows, offsets: t.offsets }, given)
    },
    reference: (t, v) => {
      const given = { heads, width, offsets, causal, branch: branch(v) }
      return positions ? pooledAttention(t, v.q, v.kv, { ...given, rows: at }) : attention(t, v.qkv, given)
    },
    f32: F32,
    bf16: positions ? ONE_ROUNDING : spread === 1 ? BF16 : { forward: 5e-3, gradient: 2e-2 }, // as of attention
  }
}

const joints = [false, true]
const causals = [false, true]

export const branchCases: readonly Case[] = [
  ...[1, 3, 8, 16, 33].flatMap((slots) =>
    joints.flatMap((joint) => causals.map((causal) => branchCase({ lengths: [5, 18], heads: 2, width: 7, slots, joint, causal }))),
  ),
  ...[16, 64, 80, 128].flatMap((width) => joints.map((joint) => branchCase({ lengths: [20, 3], heads: 2, width, slots: 8, joint }))),
  ...joints.map((joint) => branchCase({ lengths: [9, 0, 1, 13], heads: 2, width: 5, slots: 3, joint, tasks: [2, 1, 0, 2] })),
  branchCase({ lengths: [9, 0, 1, 13, 4], heads: 2, width: 5, slots: 4, tasks: [0, 1, 2, 0, 2], weights: [0.3, 1, 0, 0, 1.7] }),
  branchCase({ lengths: [35, 50], heads: 1, width: 16, slots: 8, tasks: [1, 0], weights: [0.5, 0.25], causal: true }),
  branchCase({ lengths: [97], heads: 1, width: 24, slots: 8 }),
  branchCase({ lengths: [97], heads: 1, width: 24, slots: 20, joint: true, causal: true }),
  branchCase({ lengths: [20], heads: 2, width: 16, slots: 8, spread: 6 }),
  branchCase({ lengths: [], heads: 2, width: 4, slots: 2 }),
  ...joints.flatMap((joint) => [
    branchCase({ lengths: [5, 18], heads: 2, width: 7, slots: 3, joint, positions: [4, 0] }),
    branchCase({ lengths: [5, 18], heads: 2, width: 64, slots: 8, joint, positions: [1, 17], causal: true, tasks: [1, 0] }),
    branchCase({ lengths: [5, 1], heads: 1, width: 16, slots: 33, joint, positions: [2, 0], causal: true }),
  ]),
  branchCase({ lengths: [7, 1, 13], heads: 3, width: 5, slots: 4, positions: [0, 0, 12], tasks: [0, 2, 0], weights: [0.6, 0, 2] }),
]
