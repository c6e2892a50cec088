import { native } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import { backward, noGradient, Parameter, recompute, scope, step, Tensor } from '../../lib/tensor.js'
import { codeOf } from './code-of.js'

// A tensor that backward needs must not change between forward and backward.
const four = Float32Array.of(1, 2, 3, 4)
const square = () => Tensor.from(four, [2, 2])
const number = () => Tensor.scalar(2)
const whole =
  (...values: number[]) =>
  () =>
    Tensor.from(Int32Array.from(values), [values.length], 'i32')

let w: Parameter
beforeEach(() => {
  w = Parameter.named('w', four, [2, 2])
  w.trainable = true
})
afterEach(() => w.dispose())

const saved: [string, () => Tensor, (t: Tensor) => Tensor][] = [
  ['x of linear', square, (t) => ops.linear(t, w)],
  ['gate of linear', number, (t) => ops.linear(square(), w, { gate: t })],
  ['weight of linear', square, (t) => ops.linear(w, t)],
  ['weight of layer_norm', () => Tensor.from(Float32Array.of(1, 2), [2]), (t) => ops.layerNorm(w, t, undefined, 1e-5)],
  [
    'offsets of attention',
    whole(0, 2),
    (t) => ops.attention(ops.reshape(ops.gatherRows(w, whole(0, 1, 0)()), [2, 3]), { offsets: t, batch: 1, maxTokens: 2 }, { heads: 1 }),
  ],
  ['index of gather_rows', whole(0), (t) => ops.gatherRows(w, t)],
  ['factor of scale_rows', number, (t) => ops.scaleRows(w, t)],
  ['b of multiply', square, (t) => ops.multiply(w, t)],
  ['s of scale', number, (t) => ops.scale(w, t)],
  ['labels of contrastive', whole(0, 1), (t) => ops.contrastive(w, w, { labels: t, scale: number() })],
  ['ids of token_embed', whole(0), (t) => ops.tokenEmbed(t, whole(1)(), w, w)],
  ['input of recompute', square, (t) => recompute(([x]) => [ops.multiply(x, w)], [t])[0]],
]

test.each(saved)('%s', async (_, make, op) => {
  const run = (write: boolean) =>
    codeOf(() =>
      step(() => {
        const t = make()
        const y = op(t)
        if (write) t.write(t.dtype === 'i32' ? new Int32Array(t.count) : new Float32Array(t.count))
        backward(ops.sum(y))
      }),
    )
  expect(await run(true)).toBe('E_VERSION')
  expect(w.gradient).toBeUndefined()
  expect(await run(false)).toBeUndefined()
})

test('a parameter that the optimizer or a write changed in between', async () => {
  const body = () => {
    const y = ops.linear(ops.linear(square(), w), w) // the second product needs w for dx
    w.write(four)
    backward(ops.sum(y))
  }
  expect(await codeOf(() => step(body))).toBe('E_VERSION')
})

test('what backward does not need may change: x of a frozen product, both sides of add', async () => {
  const x = square()
  await step(() => {
    const y = ops.add(w, x)
    x.write(new Float32Array(4))
    backward(ops.sum(y))
  })
  expect(Array.from(await w.gradient!.floats())).toEqual([1, 1, 1, 1])
  x.dispose()
})

test('a packed copy is rebuilt after a write', async () => {
  const frozen = square()
  const results: number[][] = []
  for (const values of [four, Float32Array.of(0, 0, 0, 5)]) {
    frozen.write(values)
    const y = await step(() => ops.linear(square(), frozen))
    results.push(Array.from(await y.floats()))
    y.dispose()
  }
  expect(results).toEqual([
    [5, 11, 11, 25],
    [0, 10, 0, 20],
  ])
  frozen.dispose()
})

// Of 3 rows both copies have as many bytes.
test.each([3, 320])('a packed copy of the first rows does not stand for the whole weight: 2 of %d', async (rows) => {
  const frozen = Tensor.from(
    Float32Array.from({ length: 2 * rows }, (_, i) => i),
    [rows, 2],
  )
  const [first, whole] = noGradient(() => scope(() => [ops.linear(square(), ops.sliceRows(frozen, 0, 2)), ops.linear(square(), frozen)]))
  expect(Array.from(await first.floats())).toEqual([2, 8, 4, 18])
  const expected = [1, 3].flatMap((a) => Array.from({ length: rows }, (_, i) => a * 2 * i + (a + 1) * (2 * i + 1)))
  expect(Array.from(await whole.floats())).toEqual(expected)
  for (const t of [first, whole, frozen]) t.dispose()
})

test('a copy that is kept for products of many rows is rebuilt after a write, and training does without', async () => {
  const frozen = square()
  native.keepPacked(frozen.id)
  const ones = () => Tensor.from(new Float32Array(1200).fill(1), [600, 2])
  const product = async (value: number) => {
    frozen.write(new Float32Array(4).fill(value))
    const y = noGradient(() => scope(() => ops.linear(ones(), frozen)))
    const values = new Set(await y.floats())
    y.dispose()
    return [...values]
  }
  expect(await product(3)).toEqual([6])
  expect(await product(5)).toEqual([10])
  await step(() => backward(ops.sum(ops.linear(ops.linear(ones(), w), frozen))))
  expect(Array.from(await w.gradient!.floats())).toEqual([6000, 6000, 6000, 6000])
  frozen.dispose()
})

test('a copy into a tensor is a write', async () => {
  const x = square()
  const body = () => {
    const y = ops.multiply(w, x)
    x.write(four)
    backward(ops.sum(y))
  }
  expect(await codeOf(() => step(body))).toBe('E_VERSION')
  x.dispose()
})
