import { native } from '../../lib/native.js'
import { gatherRows, linear, sum } from '../../lib/ops.js'
import { backward, Parameter, scope, step, synchronize, Tensor } from '../../lib/tensor.js'
import { codeOf } from './code-of.js'

// A kernel's error is sticky: the queue drains without running, and the next wait rejects with it, once.
const ids = (...list: number[]) => Tensor.from(Int32Array.from(list), [list.length], 'i32')
const pause = () => new Promise((resolve) => setTimeout(resolve, 20))

let w: Parameter
let m: Parameter
let v: Parameter
let schedule: Parameter
beforeEach(() => {
  w = Parameter.named('w', Float32Array.of(1, 2, 3, 4), [2, 2])
  w.trainable = true
  m = Parameter.named('m', null, [2, 2])
  v = Parameter.named('v', null, [2, 2])
  schedule = Parameter.named('schedule', Float32Array.of(0.1, 0.1, 0.001, 0), [4])
})
afterEach(async () => {
  await synchronize()
  for (const t of [w, m, v, schedule]) t.dispose()
})

/** One training step on rows of the identity; an id above 1 is out of range. */
const train = (...list: number[]) =>
  step(() => {
    const identity = Tensor.from(Float32Array.of(1, 0, 0, 1), [2, 2])
    const loss = sum(linear(gatherRows(identity, ids(...list)), w))
    backward(loss)
    native.adamw([{ parameter: w.id, m: m.id, v: v.id, average: 0, decay: 0, lrScale: 1 }], schedule.id, {
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      maxNorm: 0,
    })
    return loss
  })

test('the reader of a result is told, the update behind the error did not run, then all works again', async () => {
  const loss = await train(0, 2)
  expect(await codeOf(() => loss.item())).toBe('E_INDEX')
  loss.dispose()
  expect(Array.from(await w.floats())).toEqual([1, 2, 3, 4])
  expect(Array.from(await m.floats())).toEqual([0, 0, 0, 0])
  const next = await train(0, 1)
  expect(await next.item()).toBe(10)
  next.dispose()
  // w − lr · m̂/√v̂ with the gradient of ones: only true if nothing of the failed step was added
  for (const [i, value] of (await w.floats()).entries()) expect(value).toBeCloseTo(i + 1 - 0.1, 5)
})

test('the message names the op and the value', async () => {
  const loss = await train(0, 2)
  await expect(loss.item()).rejects.toThrow(/^gather_rows: .*expected values in \[0, 2\), got 2 at 1/)
  loss.dispose()
})

test('a failure waits for whoever comes, however late', async () => {
  const loss = await train(5)
  await pause()
  expect(await codeOf(() => loss.item())).toBe('E_INDEX')
  loss.dispose()
  expect(await codeOf(synchronize)).toBeUndefined()
})

test('synchronize is told, once', async () => {
  ;(await train(5)).dispose()
  await pause()
  expect(await codeOf(synchronize)).toBe('E_INDEX')
  expect(await codeOf(synchronize)).toBeUndefined()
})

test('a loop that waits for nothing is told by a later step, once', async () => {
  const codes: (string | undefined)[] = []
  for (let i = 0; i < 8; ++i) {
    codes.push(await codeOf(async () => (await train(i === 0 ? -1 : 1)).dispose()))
    if (codes.includes('E_INDEX')) break
  }
  expect(codes[codes.length - 1]).toBe('E_INDEX')
  expect(codes.length).toBeLessThanOrEqual(3) // two steps in flight
  for (let i = 0; i < 5; ++i) expect(await codeOf(async () => (await train(1)).dispose())).toBeUndefined()
  expect(await codeOf(synchronize)).toBeUndefined()
})

test('who was told by a result is not told again by a step', async () => {
  const first = await train(9)
  const second = await train(0)
  expect(await codeOf(() => first.item())).toBe('E_INDEX')
  for (let i = 0; i < 4; ++i) {
    await pause()
    expect(await codeOf(async () => (await train(1)).dispose())).toBeUndefined()
  }
  first.dispose()
  second.dispose()
})

test('everybody who waited for what never ran is told', async () => {
  const [a, b] = [await train(9), await train(0)]
  expect(await Promise.all([a, b].map((t) => codeOf(() => t.item())))).toEqual(['E_INDEX', 'E_INDEX'])
  a.dispose()
  b.dispose()
})

test('a second error after the first was told is told too', async () => {
  for (let i = 0; i < 3; ++i) {
    const loss = await train(9)
    const all = [loss.item(), native.read(w.id), native.read(m.id)].map((promise) => codeOf(() => promise))
    expect(await Promise.all(all)).toEqual(['E_INDEX', 'E_INDEX', 'E_INDEX'])
    loss.dispose()
  }
})

test('gradients that were never computed are no gradients', async () => {
  ;(await train(0)).dispose()
  ;(await train(3)).dispose()
  expect(await codeOf(synchronize)).toBe('E_INDEX')
  expect(w.gradient).toBeUndefined()
})

test('offsets of attention that do not ascend to the rows are an error of the kernel', async () => {
  for (const offsets of [
    [0, 3, 2, 4],
    [1, 2, 3, 4],
    [0, 1, 2, 3],
    [0, 4, 4, 4],
    [0, 1, 2, 5],
    [-1, 1, 2, 4],
  ]) {
    const y = await step(() => scope(() => new Tensor(native.attention(Tensor.zeros([4, 6]).id, ids(...offsets).id, 1, 3, false))))
    expect(await codeOf(() => y.data())).toBe('E_INDEX')
    y.dispose()
  }
})
