// Cases of ops on rows: layer_norm, l2_normalize, scale_rows, gather_rows, class_tokens, token_embed.
import type { FloatDType } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import { BF16, type Case, drawn, F32, given, type Input, indices } from './case.js'
import * as reference from './reference.js'

function layerNormCase(m: number, d: number, o: { bias?: boolean; centre?: number; result?: FloatDType; xTrains?: boolean } = {}): Case {
  const { bias = true, centre = 0, result, xTrains = true } = o
  const inputs: Record<string, Input> = {
    x: drawn([m, d], { operand: true, centre, trains: xTrains }),
    weight: drawn([d], { centre: 1, spread: 0.3 }),
  }
  if (bias) inputs.bias = drawn([d])
  return {
    name: `layer_norm [${m}, ${d}]${bias ? '' : ' without bias'}${centre ? ` around ${centre}` : ''}${result ? ` to ${result}` : ''}`,
    inputs,
    run: (t, dtype) => ops.layerNorm(t.x, t.weight, t.bias, 1e-5, result ?? dtype),
    reference: (t, v) => reference.layerNorm(t, v.x, d, v.weight, v.bias, 1e-5),
    f32: F32,
    bf16: result === 'f32' ? { forward: 1e-5, gradient: 2.5e-3 } : BF16,
  }
}

function l2Case(m: number, d: number, spread = 1): Case {
  return {
    name: `l2_normalize [${m}, ${d}]${spread === 1 ? '' : ` of ${spread}`}`,
    inputs: { x: drawn([m, d], { spread }) },
    run: (t) => ops.l2Normalize(t.x),
    reference: (t, v) => reference.l2Normalize(t, v.x, d),
    f32: F32,
  }
}

function scaleRowsCase(m: number, d: number, factor: readonly number[], repeat: number): Case {
  return {
    name: `scale_rows [${m}, ${d}] by [${factor}], ${repeat} rows each`,
    inputs: { x: drawn([m, d], { operand: true }), factor: given(factor) },
    run: (t) => ops.scaleRows(t.x, t.factor, repeat),
    reference: (t, v) => reference.scaleRows(t, v.x, d, v.factor, repeat),
    f32: F32,
    bf16: BF16,
  }
}

function gatherCase(rows: number, d: number, index: readonly number[]): Case {
  return {
    name: `gather_rows [${index}] of [${rows}, ${d}]`,
    inputs: { x: drawn([rows, d], { operand: true }), index: indices(index) },
    run: (t) => ops.gatherRows(t.x, t.index),
    reference: (_, v) => reference.gatherRows(v.x, d, index),
    f32: F32,
    bf16: { forward: 0, gradient: 6e-3 }, // rows that repeat are added in bf16
  }
}

function classTokensCase(batch: number, n: number, d: number): Case {
  return {
    name: `class_tokens ${batch} x ${n} x ${d}`,
    inputs: { x: drawn([batch * n, d], { operand: true }), cls: drawn([d]), position: drawn([n + 1, d]) },
    run: (t) => ops.classTokens(t.x, t.cls, t.position, batch),
    reference: (t, v) => reference.classTokens(t, v.x, v.cls, v.position, batch),
    f32: F32,
    bf16: { forward: 1e-5, gradient: 2.5e-3 },
  }
}

function tokenEmbedCase(ids: readonly number[], positions: readonly number[], d: number): Case {
  return {
    name: `token_embed of ${ids.length} ids, width ${d}`,
    inputs: { ids: indices(ids), positions: indices(positions), table: drawn([11, d], { operand: true }), position: drawn([6, d]) },
    run: (t) => ops.tokenEmbed(t.ids, t.positions, t.table, t.position),
    reference: (t, v) => reference.tokenEmbed(t, ids, positions, v.table, v.position, d),
    f32: F32,
    bf16: { forward: 1e-5, gradient: 2.5e-3 },
  }
}

/** A table as it is stored where products run in bf16. */
function halfTableCase(ids: readonly number[], positions: readonly number[], d: number): Case {
  return {
    ...tokenEmbedCase(ids, positions, d),
    name: `token_embed of ${ids.length} ids from a table in f16, width ${d}`,
    run: (t) => ops.tokenEmbed(t.ids, t.positions, ops.cast(t.table, 'f16'), t.position),
    f32: { forward: 4e-4, gradient: 4e-4 },
  }
}

export const rowCases: readonly Case[] = [
  layerNormCase(3, 1, { xTrains: false }), // dx is zero but for the rounding of a fused multiply-add
  layerNormCase(1, 5),
  layerNormCase(7, 16),
  layerNormCase(130, 33),
  layerNormCase(4, 770, { result: 'f32' }),
  layerNormCase(5, 40, { bias: false }),
  layerNormCase(6, 64, { centre: 20 }),
  layerNormCase(0, 8),
  l2Case(1, 1),
  l2Case(5, 37),
  l2Case(40, 130),
  l2Case(2, 9, 1e-6),
  l2Case(1, 6, 0),
  l2Case(0, 4),
  scaleRowsCase(7, 5, [0, 1.25, -2, 1, 0, 0.5, 3], 1),
  scaleRowsCase(12, 33, [1.5, 0, 2, -1], 3),
  scaleRowsCase(12, 17, [0, 2, 1.25], 1),
  gatherCase(9, 7, [3, 3, 0, 8, 3]),
  gatherCase(4, 130, [2, 0]),
  gatherCase(4, 6, []),
  classTokensCase(3, 4, 5),
  classTokensCase(1, 9, 33),
  classTokensCase(5, 1, 16),
  tokenEmbedCase([0, 10, 3, 3, 0, 7], [0, 1, 2, 0, 1, 5], 5),
  halfTableCase([4, 0, 4, 10, 10, 10], [0, 1, 2, 3, 5, 5], 41),
  tokenEmbedCase([4, 4, 4, 1], [0, 1, 0, 1], 70),
  tokenEmbedCase([], [], 8),
]
