import { native } from '../../lib/native.js'
import { attention, type ExtraKeyValues, pooledAttention, type Rows, sum } from '../../lib/ops.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'

// On the CPU the tape holds of attention what it was made from and lse, not its result: backward takes delta from P and dP.
const [M, HEADS, D] = [24, 4, 512]
const parameter = (name: string, shape: number[]) => {
  const count = shape.reduce((a, b) => a * b, 1)
  const p = Parameter.named(
    name,
    Float32Array.from({ length: count }, (_, i) => Math.sin(i)),
    shape,
  )
  p.trainable = true
  return p
}
const slots = () => ({ keys: parameter('keys', [1, 8, D]), values: parameter('values', [1, 8, D]) })

/** Bytes that the tape holds once the result is used and its handle gone; the gradient still comes. */
async function held(packed: Parameter, run: (rows: Rows) => Tensor): Promise<number> {
  const bytes = await step(() => {
    const rows = { offsets: Tensor.from(Int32Array.of(0, 7, M), [3], 'i32'), batch: 2, maxTokens: M - 7 }
    const before = native.memory().live
    const y = run(rows)
    const loss = sum(y)
    y.dispose()
    const after = native.memory().live
    backward(loss)
    return after - before
  })
  const gradient = packed.gradient
  expect((await gradient?.floats())?.some((g) => g !== 0)).toBe(true)
  gradient?.dispose()
  packed.dispose()
  return bytes
}

const cases: [string, { causal?: boolean; extra?: Pick<ExtraKeyValues, 'softmax'> }][] = [
  ['full', {}],
  ['causal', { causal: true }],
  ['extra keys with a softmax of their own', { extra: {} }],
  ['extra keys in the one softmax, causal', { causal: true, extra: { softmax: 'joint' } }],
]
test.each(cases)('attention, %s: lse and the loss', async (_, { causal, extra }) => {
  const bank = extra && { ...extra, ...slots() }
  const qkv = parameter('qkv', [M, 3 * D])
  expect(await held(qkv, (rows) => attention(qkv, rows, { heads: HEADS, causal, extra: bank }))).toBe(HEADS * M * 4 + 64)
  bank?.keys.dispose()
  bank?.values.dispose()
})

test('pooled attention: the loss alone', async () => {
  const [q, kv] = [parameter('q', [2, D]), parameter('kv', [M, 2 * D])]
  const row = Tensor.from(Int32Array.of(0, M - 1), [2], 'i32')
  expect(await held(kv, (rows) => pooledAttention(q, kv, rows, row, { heads: HEADS }))).toBe(64)
  row.dispose()
  q.dispose()
})
