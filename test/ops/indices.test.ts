import * as ops from '../../lib/ops.js'
import { step, synchronize, Tensor } from '../../lib/tensor.js'
import { codeOf } from '../core/code-of.js'

// Indices live in device memory: the kernel checks them, and the next wait is told.
const whole = (...values: number[]) => Tensor.from(Int32Array.from(values), [values.length], 'i32')
const rows = (n: number) => Tensor.zeros([n, 3])
const bank = () => ({ keys: Tensor.zeros([5, 2, 4]), values: Tensor.zeros([5, 2, 4]) })

test.each<[string, number[], number, (i: Tensor) => Tensor]>([
  ['gather_rows', [0, 4], 5, (i) => ops.gatherRows(rows(5), i)],
  ['ids of token_embed', [0, 4], 5, (i) => ops.tokenEmbed(i, whole(0, 0), rows(5), rows(2))],
  [
    'row of pooled_attention',
    [0, 5],
    6,
    (i) =>
      ops.pooledAttention(Tensor.zeros([2, 4]), Tensor.zeros([6, 8]), { offsets: whole(0, 3, 6), batch: 2, maxTokens: 3 }, i, { heads: 2 }),
  ],
  [
    'index of extra keys of attention',
    [0, 4],
    5,
    (index) =>
      ops.attention(Tensor.zeros([6, 12]), { offsets: whole(0, 3, 6), batch: 2, maxTokens: 3 }, { heads: 2, extra: { ...bank(), index } }),
  ],
  [
    'index of extra keys of pooled_attention',
    [0, 4],
    5,
    (index) =>
      ops.pooledAttention(Tensor.zeros([2, 4]), Tensor.zeros([6, 8]), { offsets: whole(0, 3, 6), batch: 2, maxTokens: 3 }, whole(0, 3), {
        heads: 2,
        extra: { ...bank(), index },
      }),
  ],
  ['labels of cross_entropy', [0, 4], 5, (labels) => ops.crossEntropy(Tensor.zeros([2, 5]), { labels })],
  ['positions of token_embed', [0, 1], 2, (i) => ops.tokenEmbed(whole(0, 0), i, rows(5), rows(2))],
])('%s', async (_, good, end, op) => {
  const run = (...list: number[]) =>
    codeOf(async () => {
      const y = await step(() => op(whole(...list)))
      try {
        await y.data()
      } finally {
        y.dispose()
      }
    })
  expect(await run(...good)).toBeUndefined()
  for (const bad of [end, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    expect(await run(good[0], bad)).toBe('E_INDEX')
    expect(await run(bad, good[1])).toBe('E_INDEX')
  }
  expect(await run(...good)).toBeUndefined()
  await synchronize()
})
