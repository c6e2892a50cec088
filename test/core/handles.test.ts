import { native } from '../../lib/native.js'
import { add } from '../../lib/ops.js'
import { backward, scope, Tensor } from '../../lib/tensor.js'
import { codeOf, thrownBy } from './code-of.js'

const number = (value: number) => Tensor.from(Float32Array.of(value), [1])

test('a stale handle is an error wherever it goes', async () => {
  const stale = number(1)
  const alive = number(2)
  stale.dispose()
  expect(await codeOf(() => stale.data())).toBe('E_HANDLE')
  expect(thrownBy(() => stale.shape)).toBe('E_HANDLE')
  expect(thrownBy(() => stale.write(Float32Array.of(3)))).toBe('E_HANDLE')
  expect(thrownBy(() => native.copy(alive.id, stale.id))).toBe('E_HANDLE')
  expect(thrownBy(() => native.setTrainable(stale.id, true))).toBe('E_HANDLE')
  expect(thrownBy(() => backward(stale))).toBe('E_HANDLE')
  expect(thrownBy(() => scope(() => add(alive, stale)))).toBe('E_HANDLE')
  alive.dispose()
})

test('a slot that is used again does not bring an old handle back to life', async () => {
  const old = number(1)
  old.dispose()
  const others = Array.from({ length: 50 }, (_, i) => number(i))
  expect(others.map((t) => t.id)).not.toContain(old.id)
  expect(await codeOf(() => old.data())).toBe('E_HANDLE')
  old.dispose() // frees none of the others
  expect(await Promise.all(others.map((t) => t.item()))).toEqual(others.map((_, i) => i))
  for (const t of others) t.dispose()
})

test('what was never a handle is an error too', () => {
  for (const id of [-1, 2 ** 24 - 1, 2 ** 52, 2 ** 53 - 1]) expect(thrownBy(() => native.shape(id))).toBe('E_HANDLE')
  for (const id of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60, 'x' as unknown as number])
    expect(thrownBy(() => native.shape(id))).toBe('E_ARGUMENT')
  expect(thrownBy(() => native.shape(0))).toBe('E_ARGUMENT')
})

test('sizes that cannot be are refused before any memory is taken', () => {
  const { reserved } = native.memory()
  for (const shape of [[2 ** 40, 2 ** 40], [2 ** 41], [-1], [1, 1, 1, 1, 1], [2 ** 22, 2 ** 21]])
    expect(thrownBy(() => Tensor.zeros(shape))).toBe('E_SHAPE')
  expect(native.memory().reserved).toBe(reserved)
})

test('bytes come from any view, and their number must fit', async () => {
  const values = Float32Array.of(9, 1, 2, 9)
  const views = [new DataView(values.buffer, 4, 8), values.subarray(1, 3), Buffer.from(values.buffer, 4, 8), values.slice(1, 3).buffer]
  for (const view of views) {
    const t = Tensor.from(view, [2])
    expect(Array.from(await t.floats())).toEqual([1, 2])
    t.dispose()
  }
  expect(thrownBy(() => Tensor.from(values, [3]))).toBe('E_SHAPE')
  expect(thrownBy(() => Tensor.from(new Float64Array(2), [2]))).toBe('E_SHAPE')
  expect(thrownBy(() => Tensor.from([1, 2] as unknown as Float32Array, [2]))).toBe('E_ARGUMENT')
})

test('an upload copies at the call', async () => {
  const values = Float32Array.of(1, 2)
  const t = Tensor.from(values, [2])
  values.fill(7)
  t.write(values.map((v) => v + 1))
  values.fill(0)
  expect(Array.from(await t.floats())).toEqual([8, 8])
  t.dispose()
})
