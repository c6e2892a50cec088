import { native } from '../../lib/native.js'
import { add, linear, multiply, reshape, scale, sum } from '../../lib/ops.js'
import { backward, noGradient, Parameter, step, Tensor } from '../../lib/tensor.js'
import { codeOf } from './code-of.js'

// backward(outputs, seeds) adds d(Σ seeds·outputs) to the gradients of parameters.
let p: Parameter
let q: Parameter
beforeEach(() => {
  p = Parameter.named('p', Float32Array.of(1, 2, 3), [3])
  q = Parameter.named('q', Float32Array.of(10, 20, 30), [3])
  p.trainable = q.trainable = true
})
afterEach(() => {
  p.dispose()
  q.dispose()
})

const vector = (...values: number[]) => Tensor.from(Float32Array.from(values), [values.length])
async function gradient(of: Parameter): Promise<number[] | undefined> {
  const t = of.gradient
  if (!t) return undefined
  const values = Array.from(await t.floats())
  t.dispose()
  return values
}

test('a seed for each output; a scalar needs none', async () => {
  await step(() => backward([multiply(p, q), sum(p)], [vector(1, 0, -1)]))
  expect(await gradient(p)).toEqual([11, 1, -29])
  expect(await gradient(q)).toEqual([1, 0, -3])
})

test('two calls add up, until the gradient is zeroed', async () => {
  for (let i = 0; i < 2; ++i) await step(() => backward(sum(multiply(p, p))))
  expect(await gradient(p)).toEqual([4, 8, 12])
  native.zeroGradient(p.id)
  expect(await gradient(p)).toBeUndefined()
  await step(() => backward(sum(p)))
  expect(await gradient(p)).toEqual([1, 1, 1])
})

test('a value used twice, a parameter used twice, an output given twice', async () => {
  await step(() => {
    const y = add(p, q) // used by both terms
    const z = add(multiply(y, y), y)
    backward([sum(z), sum(z, 2), y], [Tensor.scalar(1), Tensor.scalar(1), vector(1, 2, 3)])
  })
  const each = [11, 22, 33].map((y, i) => 3 * (2 * y + 1) + i + 1)
  expect(await gradient(p)).toEqual(each)
  expect(await gradient(q)).toEqual(each)
})

test('a seed is read, not written', async () => {
  const seed = vector(1, 2, 3)
  await step(() => {
    const y = reshape(scale(p, Tensor.scalar(2)), [3])
    backward([y, y], [seed, seed])
  })
  expect(Array.from(await seed.floats())).toEqual([1, 2, 3])
  expect(await gradient(p)).toEqual([4, 8, 12])
  seed.dispose()
})

test('a parameter may be an output itself', async () => {
  await step(() => backward(p, [vector(5, 6, 7)]))
  expect(await gradient(p)).toEqual([5, 6, 7])
})

test('one weight, read both ways', async () => {
  const w = Parameter.named('w', Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3])
  w.trainable = true
  const y = await step(() => {
    const result = linear(linear(Tensor.from(Float32Array.of(1, 0, 2), [1, 3]), w), w, { transposed: true })
    backward(sum(result))
    return result
  })
  // h = W x = [7, 16]; y = h W; dW = h 1ᵀ + (W 1) xᵀ
  expect(Array.from(await y.floats())).toEqual([71, 94, 117])
  expect(await gradient(w)).toEqual([7 + 6, 7, 7 + 12, 16 + 15, 16, 16 + 30])
  y.dispose()
  w.dispose()
})

test('what cannot be is an error', async () => {
  const code = (body: () => void) => codeOf(() => step(body))
  expect(await code(() => backward(multiply(p, q)))).toBe('E_SHAPE')
  expect(await code(() => backward(multiply(p, q), [vector(1, 2)]))).toBe('E_SHAPE')
  expect(await code(() => backward(sum(vector(1))))).toBe('E_NO_GRADIENT')
  expect(await code(() => backward(noGradient(() => sum(p))))).toBe('E_NO_GRADIENT')
  expect(await gradient(p)).toBeUndefined()
})

test('a tape is walked once: what it no longer knows is an error, not a gradient lost in silence', async () => {
  const twice = () => {
    const y = sum(multiply(p, q))
    backward(y)
    backward(y)
  }
  expect(await codeOf(() => step(twice))).toBe('E_NO_GRADIENT')
  const kept = await step(() => multiply(p, q))
  expect(await codeOf(() => step(() => backward(sum(multiply(kept, p)))))).toBe('E_NO_GRADIENT')
  kept.dispose()
})

test('frozen parameters get none, and freezing drops what was there', async () => {
  await step(() => backward(sum(multiply(p, q))))
  q.trainable = false
  expect(await gradient(q)).toBeUndefined()
  await step(() => backward(sum(multiply(p, q))))
  expect(await gradient(p)).toEqual([20, 40, 60])
  expect(await gradient(q)).toBeUndefined()
})
