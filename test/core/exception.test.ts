import { native } from '../../lib/native.js'
import { linear, sum } from '../../lib/ops.js'
import { backward, noGradient, Parameter, recompute, step, Tensor } from '../../lib/tensor.js'
import { codeOf } from './code-of.js'

// An exception in the middle of a step: everything born inside goes, tape too; gradients are dropped; parameters stay as
// they were; the error is thrown on; the next step works.
const values = Float32Array.from({ length: 12 }, (_, i) => Math.sin(i))
const x = () => Tensor.from(values, [3, 4])

let w: Parameter
beforeEach(() => {
  w = Parameter.named('w', values, [3, 4])
  w.trainable = true
})
afterEach(() => w.dispose())

async function gradientOf(loss: (x: Tensor) => Tensor): Promise<number[]> {
  await step(() => backward(loss(x())))
  const gradient = w.gradient!
  const out = Array.from(await gradient.floats())
  gradient.dispose()
  return out
}
const product = (input: Tensor) => sum(linear(input, w), 0.5)

test.each<[string, () => void]>([
  ['after forward', () => void product(x())],
  ['after backward', () => backward(product(x()))],
  [
    'inside noGradient',
    () =>
      noGradient(() => {
        throw new Error('mine')
      }),
  ],
  [
    'inside recompute',
    () =>
      void recompute(() => {
        throw new Error('mine')
      }, [x()]),
  ],
])('%s', async (_, body) => {
  const clean = await gradientOf(product)
  native.zeroGradient(w.id)
  const before = native.memory()
  await expect(
    step(() => {
      body()
      throw new Error('mine')
    }),
  ).rejects.toThrow('mine')
  expect(native.memory().tensors).toBe(before.tensors)
  expect(w.gradient).toBeUndefined()
  expect(native.memory().live).toBe(before.live)
  expect(Array.from(await w.floats())).toEqual(Array.from(values))
  expect(native.scopeDepth()).toBe(0)
  expect(await gradientOf(product)).toEqual(clean)
})

test('in the middle of backward: inside a recompute that fails the second time', async () => {
  const clean = await gradientOf(product)
  native.zeroGradient(w.id)
  let calls = 0
  const body = () =>
    backward(
      recompute(
        ([input]) => {
          if (++calls === 2) throw new Error('second')
          return [product(input)]
        },
        [x()],
      ),
    )
  await expect(step(body)).rejects.toThrow('second')
  expect(calls).toBe(2)
  expect(w.gradient).toBeUndefined()
  expect(await gradientOf(product)).toEqual(clean)
})

test('gradients of earlier steps go as well: what was added up is given up as a whole', async () => {
  await gradientOf(product)
  await expect(
    step(() => {
      throw new Error('mine')
    }),
  ).rejects.toThrow('mine')
  expect(w.gradient).toBeUndefined()
})

test('a tape that was given up does not leak into the next step', async () => {
  let kept: Tensor | undefined
  await expect(
    step(() => {
      kept = product(x())
      throw new Error('mine')
    }),
  ).rejects.toThrow('mine')
  expect(await codeOf(() => step(() => backward(kept!)))).toBe('E_HANDLE')
})
