import type { Activation, FloatDType } from '../../lib/native.js'
import { native } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import { Parameter, scope, Tensor } from '../../lib/tensor.js'
import { thrownBy } from '../core/code-of.js'

// What does not fit is refused at the call, with a code and a message that names the op, before anything is queued.
const f32 = (...shape: number[]) => Tensor.zeros(shape)
const bf16 = (...shape: number[]) => Tensor.zeros(shape, 'bf16')
const i32 = (...shape: number[]) => Tensor.zeros(shape, 'i32')
const rows = { offsets: 0 as unknown as Tensor, batch: 1, maxTokens: 2 }

const extra = (given: ops.ExtraKeyValues) =>
  ops.attention(f32(2, 9), { offsets: i32(2), batch: 1, maxTokens: 2 }, { heads: 1, extra: given })

const wrong: [string, string, () => unknown][] = [
  ['linear: columns of x', 'E_SHAPE', () => ops.linear(f32(2, 3), f32(4, 5))],
  ['linear: transposed', 'E_SHAPE', () => ops.linear(f32(2, 3), f32(4, 3), { transposed: true })],
  ['linear: a weight of three dimensions', 'E_SHAPE', () => ops.linear(f32(2, 3), f32(1, 4, 3))],
  ['linear: bias', 'E_SHAPE', () => ops.linear(f32(2, 3), f32(4, 3), { bias: f32(3) })],
  ['linear: bias of bf16', 'E_DTYPE', () => ops.linear(f32(2, 3), f32(4, 3), { bias: bf16(4) })],
  ['linear: gate', 'E_SHAPE', () => ops.linear(f32(2, 3), f32(4, 3), { gate: f32(2) })],
  ['linear: residual', 'E_SHAPE', () => ops.linear(f32(2, 3), f32(4, 3), { residual: f32(2, 3) })],
  ['linear: skip that is x of another width', 'E_SHAPE', () => ops.linear(f32(2, 3), f32(4, 3), { skip: f32(2, 3) })],
  [
    'linear: residual beside an activation',
    'E_ARGUMENT',
    () => ops.linear(f32(2, 3), f32(4, 3), { residual: f32(2, 4), activation: 'gelu' }),
  ],
  ['linear: activation', 'E_ARGUMENT', () => ops.linear(f32(2, 3), f32(4, 3), { activation: 'relu' as Activation })],
  ['linear: i32', 'E_DTYPE', () => ops.linear(i32(2, 3), f32(4, 3))],
  ['linear: result of i32', 'E_DTYPE', () => ops.linear(f32(2, 3), f32(4, 3), { dtype: 'i32' as FloatDType })],
  ['linear: an unknown type', 'E_DTYPE', () => ops.linear(f32(2, 3), f32(4, 3), { dtype: 'f64' as FloatDType })],
  ['layer_norm: weight', 'E_SHAPE', () => ops.layerNorm(f32(2, 3), f32(4), undefined, 1e-5)],
  ['layer_norm: eps', 'E_ARGUMENT', () => ops.layerNorm(f32(2, 3), f32(3), undefined, 0)],
  ['layer_norm: bias', 'E_SHAPE', () => ops.layerNorm(f32(2, 3), f32(3), f32(2), 1e-5)],
  ['attention: not three parts', 'E_SHAPE', () => ops.attention(f32(2, 8), { ...rows, offsets: i32(2) }, { heads: 1 })],
  ['attention: heads', 'E_SHAPE', () => ops.attention(f32(2, 9), { ...rows, offsets: i32(2) }, { heads: 2 })],
  ['attention: no heads', 'E_SHAPE', () => ops.attention(f32(2, 9), { ...rows, offsets: i32(2) }, { heads: 0 })],
  ['attention: a head of 129', 'E_SHAPE', () => ops.attention(f32(2, 387), { ...rows, offsets: i32(2) }, { heads: 1 })],
  ['attention: offsets of f32', 'E_DTYPE', () => ops.attention(f32(2, 9), { ...rows, offsets: f32(2) }, { heads: 1 })],
  [
    'attention: more tokens than rows',
    'E_ARGUMENT',
    () => ops.attention(f32(2, 9), { offsets: i32(2), batch: 1, maxTokens: 3 }, { heads: 1 }),
  ],
  ['attention: extra keys of another width', 'E_SHAPE', () => extra({ keys: f32(1, 2, 4), values: f32(1, 2, 4) })],
  ['attention: extra keys of two dimensions', 'E_SHAPE', () => extra({ keys: f32(2, 3), values: f32(2, 3) })],
  ['attention: no slot', 'E_SHAPE', () => extra({ keys: f32(1, 0, 3), values: f32(1, 0, 3) })],
  ['attention: extra values of other slots', 'E_SHAPE', () => extra({ keys: f32(1, 2, 3), values: f32(1, 3, 3) })],
  ['attention: extra keys of bf16', 'E_DTYPE', () => extra({ keys: bf16(1, 2, 3), values: f32(1, 2, 3) })],
  ['attention: index of f32', 'E_DTYPE', () => extra({ keys: f32(1, 2, 3), values: f32(1, 2, 3), index: f32(1) })],
  ['attention: index of two samples', 'E_SHAPE', () => extra({ keys: f32(1, 2, 3), values: f32(1, 2, 3), index: i32(2) })],
  ['attention: weight of two samples', 'E_SHAPE', () => extra({ keys: f32(1, 2, 3), values: f32(1, 2, 3), weight: f32(2) })],
  [
    'attention: weight beside a joint softmax',
    'E_ARGUMENT',
    () => extra({ keys: f32(1, 2, 3), values: f32(1, 2, 3), weight: f32(1), softmax: 'joint' }),
  ],
  [
    'pooled_attention: extra keys of another width',
    'E_SHAPE',
    () =>
      ops.pooledAttention(f32(1, 9), f32(2, 18), { ...rows, offsets: i32(2) }, i32(1), {
        heads: 1,
        extra: { keys: f32(1, 2, 8), values: f32(1, 2, 8) },
      }),
  ],
  ['slice_rows: beyond the end', 'E_SHAPE', () => ops.sliceRows(f32(3, 2), 2, 2)],
  ['slice_rows: before the start', 'E_SHAPE', () => ops.sliceRows(f32(3, 2), -1, 2)],
  [
    'pooled_attention: heads',
    'E_SHAPE',
    () => ops.pooledAttention(f32(1, 9), f32(2, 18), { ...rows, offsets: i32(2) }, i32(1), { heads: 2 }),
  ],
  ['pooled_attention: kv', 'E_SHAPE', () => ops.pooledAttention(f32(1, 9), f32(2, 27), { ...rows, offsets: i32(2) }, i32(1), { heads: 1 })],
  [
    'pooled_attention: types',
    'E_DTYPE',
    () => ops.pooledAttention(f32(1, 9), bf16(2, 18), { ...rows, offsets: i32(2) }, i32(1), { heads: 1 }),
  ],
  [
    'pooled_attention: rows',
    'E_SHAPE',
    () => ops.pooledAttention(f32(1, 9), f32(2, 18), { ...rows, offsets: i32(2) }, i32(2), { heads: 1 }),
  ],
  ['patchify: an image of another size', 'E_SHAPE', () => ops.patchify(f32(1, 3, 8, 9), 4, 'f32')],
  ['patchify: no patch', 'E_SHAPE', () => ops.patchify(f32(1, 3, 8, 8), 0, 'f32')],
  ['class_tokens: rows for the batch', 'E_SHAPE', () => ops.classTokens(f32(5, 4), f32(4), f32(3, 4), 2)],
  ['class_tokens: positions', 'E_SHAPE', () => ops.classTokens(f32(4, 4), f32(4), f32(2, 4), 2)],
  ['token_embed: positions', 'E_SHAPE', () => ops.tokenEmbed(i32(3), i32(2), f32(5, 4), f32(6, 4))],
  ['token_embed: widths', 'E_SHAPE', () => ops.tokenEmbed(i32(3), i32(3), f32(5, 4), f32(6, 3))],
  ['token_embed: ids of f32', 'E_DTYPE', () => ops.tokenEmbed(f32(3), i32(3), f32(5, 4), f32(6, 4))],
  ['gather_rows: index of f32', 'E_DTYPE', () => ops.gatherRows(f32(3, 2), f32(3))],
  ['scale_rows: no rows each', 'E_ARGUMENT', () => ops.scaleRows(f32(3, 2), f32(3), 0)],
  ['scale_rows: no factor', 'E_ARGUMENT', () => ops.scaleRows(f32(3, 2), f32(0), 1)],
  ['l2_normalize: bf16', 'E_DTYPE', () => ops.l2Normalize(bf16(2, 3))],
  ['contrastive: text', 'E_SHAPE', () => ops.contrastive(f32(2, 3), f32(2, 4), { labels: i32(2), scale: f32(1) })],
  ['contrastive: labels', 'E_SHAPE', () => ops.contrastive(f32(2, 3), f32(2, 3), { labels: i32(3), scale: f32(1) })],
  ['contrastive: epsilon', 'E_ARGUMENT', () => ops.contrastive(f32(2, 3), f32(2, 3), { labels: i32(2), scale: f32(1), epsilon: 1 })],
  ['contrastive: no pairs', 'E_SHAPE', () => ops.contrastive(f32(0, 3), f32(0, 3), { labels: i32(0), scale: f32(1) })],
  ['cross_entropy: logits of one dimension', 'E_SHAPE', () => ops.crossEntropy(f32(4), { labels: i32(4) })],
  ['cross_entropy: no class', 'E_SHAPE', () => ops.crossEntropy(f32(4, 0), { labels: i32(4) })],
  ['cross_entropy: labels', 'E_SHAPE', () => ops.crossEntropy(f32(2, 3), { labels: i32(3) })],
  ['cross_entropy: labels of f32', 'E_DTYPE', () => ops.crossEntropy(f32(2, 3), { labels: f32(2) })],
  ['cross_entropy: teacher', 'E_SHAPE', () => ops.crossEntropy(f32(2, 3), { teacher: f32(2, 4) })],
  ['cross_entropy: no target', 'E_ARGUMENT', () => ops.crossEntropy(f32(2, 3), {})],
  ['cross_entropy: two targets', 'E_ARGUMENT', () => ops.crossEntropy(f32(2, 3), { labels: i32(2), teacher: f32(2, 3) })],
  ['cross_entropy: scale', 'E_SHAPE', () => ops.crossEntropy(f32(2, 3), { labels: i32(2), scale: f32(2) })],
  ['cross_entropy: smoothing', 'E_ARGUMENT', () => ops.crossEntropy(f32(2, 3), { labels: i32(2), smoothing: 1.1 })],
  ['cross_entropy: smoothing of a teacher', 'E_ARGUMENT', () => ops.crossEntropy(f32(2, 3), { teacher: f32(2, 3), smoothing: 0.1 })],
  ['cross_entropy: temperature', 'E_ARGUMENT', () => ops.crossEntropy(f32(2, 3), { labels: i32(2), temperature: 0 })],
  ['add: shapes', 'E_SHAPE', () => ops.add(f32(2, 3), f32(3, 2))],
  ['multiply: i32', 'E_DTYPE', () => ops.multiply(i32(2), i32(2))],
  ['scale: factor', 'E_SHAPE', () => ops.scale(f32(2), f32(2))],
  ['sum: i32', 'E_DTYPE', () => ops.sum(i32(2))],
  ['reshape: count', 'E_SHAPE', () => ops.reshape(f32(2, 3), [5])],
  ['cast: i32', 'E_DTYPE', () => ops.cast(i32(2), 'f32')],
  ['interpolate: shapes', 'E_SHAPE', () => ops.interpolate(f32(2), f32(3), 0.5, 'f32')],
]

test.each(wrong)('%s', (title, code, body) => {
  const before = native.memory()
  let message = ''
  const got = thrownBy(() =>
    scope(() => {
      try {
        body()
      } catch (error) {
        message = (error as Error).message
        throw error
      }
    }),
  )
  expect(got).toBe(code)
  expect(message).toMatch(
    code === 'E_DTYPE' && title.includes('unknown') ? /^dtype: expected / : new RegExp(`^${title.split(':')[0]}: expected .*, got `),
  )
  expect(native.memory().live).toBe(before.live)
})

test('only f32 tensors become parameters', () => {
  const p = Parameter.named('p', null, [2], 'bf16')
  expect(
    thrownBy(() => {
      p.trainable = true
    }),
  ).toBe('E_DTYPE')
  expect(p.trainable).toBe(false)
  p.dispose()
})
