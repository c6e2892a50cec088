import { native } from '../../lib/native.js'
import { add, linear, sum } from '../../lib/ops.js'
import { Parameter, recompute, scope, step, Tensor } from '../../lib/tensor.js'
import { codeOf, thrownBy } from './code-of.js'

const ones = (n: number) => Tensor.from(new Float32Array(n).fill(1), [n])

test('what is born inside goes, what is returned stays', async () => {
  const before = native.memory().tensors
  let inside: Tensor | undefined
  const kept = scope(() => {
    inside = ones(3)
    const other = ones(3)
    return { list: [add(inside, other)], nothing: null, word: 'y' }
  })
  expect(thrownBy(() => native.shape(inside!.id))).toBe('E_HANDLE')
  expect(Array.from(await kept.list[0].floats())).toEqual([2, 2, 2])
  expect(native.memory().tensors).toBe(before + 1)
  kept.list[0].dispose()
  expect(native.memory().tensors).toBe(before)
})

test('what an inner scope returns belongs to the one around it', () => {
  let escaped: Tensor | undefined
  scope(() => {
    escaped = scope(() => ones(2))
    expect(native.shape(escaped.id)).toEqual([2])
  })
  expect(thrownBy(() => native.shape(escaped!.id))).toBe('E_HANDLE')
})

test('everything goes when the function throws, and the error is thrown on', () => {
  const before = native.memory()
  const mine = new Error('mine')
  expect(() =>
    scope(() => {
      scope(() => add(ones(100), ones(100)))
      throw mine
    }),
  ).toThrow(mine)
  expect(native.memory().tensors).toBe(before.tensors)
  expect(native.memory().live).toBe(before.live)
  expect(native.scopeDepth()).toBe(0)
})

test('a result that cannot be looked through keeps nothing', () => {
  const before = native.memory().tensors
  const mine = new Error('mine')
  const result = () => ({
    first: ones(2),
    get second(): Tensor {
      throw mine
    },
  })
  expect(() => scope(result)).toThrow(mine)
  expect(native.memory().tensors).toBe(before)
})

test('a thenable is refused, and its own failure later harms nobody', async () => {
  const before = native.memory().tensors
  expect(thrownBy(() => scope(() => Promise.resolve(ones(1))))).toBe('E_ASYNC')
  // biome-ignore lint/suspicious/noThenProperty: a thenable is the point
  expect(thrownBy(() => scope(() => ({ then: () => {} })))).toBe('E_ASYNC')
  const rejections: unknown[] = []
  const listen = (reason: unknown) => rejections.push(reason)
  process.on('unhandledRejection', listen)
  const late = async () => {
    const x = ones(2)
    await new Promise((resolve) => setTimeout(resolve, 5))
    sum(x) // the scope is long closed
  }
  expect(thrownBy(() => scope(late))).toBe('E_ASYNC')
  expect(await codeOf(() => step(late))).toBe('E_ASYNC')
  await new Promise((resolve) => setTimeout(resolve, 30))
  process.off('unhandledRejection', listen)
  expect(rejections).toEqual([])
  expect(native.memory().tensors).toBe(before)
})

test('an op outside any scope is an error that names the op', () => {
  const x = Tensor.from(new Float32Array(4), [2, 2])
  expect(() => linear(x, x)).toThrow(/^linear: expected to run inside scope/)
  expect(thrownBy(() => sum(x))).toBe('E_SCOPE')
  expect(thrownBy(() => recompute((inputs) => inputs, [x]))).toBe('E_SCOPE')
  expect(thrownBy(() => native.adamw([], x.id, { beta1: 0, beta2: 0, eps: 1, maxNorm: 0 }))).toBe('E_SCOPE')
  x.dispose()
})

test('a parameter made inside a scope outlives it', async () => {
  const p = scope(() => {
    const made = Parameter.named('p', Float32Array.of(1, 2), [2])
    return () => made
  })()
  expect(Array.from(await p.floats())).toEqual([1, 2])
  p.dispose()
})

test('a tensor made outside belongs to the caller', async () => {
  const before = native.memory()
  const x = ones(1000)
  await step(() => void sum(x))
  expect(native.memory().tensors).toBe(before.tensors + 1)
  expect(native.memory().live).toBeGreaterThanOrEqual(before.live + 4000)
  x.dispose()
  x.dispose()
  expect(native.memory()).toMatchObject({ tensors: before.tensors, live: before.live })
})
