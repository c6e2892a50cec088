import { native } from '../../lib/native.js'
import { dropout } from '../../lib/ops.js'
import { backward, Parameter, scope, step, Tensor } from '../../lib/tensor.js'
import { codeOf } from '../core/code-of.js'

const i32 = (...values: number[]) => Tensor.from(Int32Array.from(values), [values.length], 'i32')
const seed = 2 ** 32 + 7
const state = (at: number) => i32(at, 7, 1)

/** The uniform of element e of a sample, by Philox's own rule: see native/cpu/dropout.cc. */
function uniform(at: number, site: number, key: number, e: number): number {
  const counter = Math.floor(e / 64) * 16 + (e % 16)
  const word = Math.floor(e / 16) % 4
  return native.random(seed, at, site, 1, (key * 2 ** 32 + counter) * 4 + word)[0]
}

test('what is kept is 1 / (1 − p) times x, by Philox', async () => {
  const rows = { offsets: scope(() => i32(0, 2, 2, 5)) }
  const x = Float32Array.from({ length: 5 * 23 }, (_, i) => i + 1)
  const y = scope(() => dropout(Tensor.from(x, [5, 23]), rows, 0.3, { keys: i32(5, 6, 9), state: state(4), site: 3 }))
  const got = await y.floats()
  for (let i = 0; i < x.length; i++) {
    const [key, first] = i < 46 ? [5, 0] : [9, 46]
    expect(got[i]).toBe(
      uniform(4, 3, key, i - first) < Math.fround(0.3) ? 0 : Math.fround(x[i] * Math.fround(1 / Math.fround(1 - Math.fround(0.3)))),
    )
  }
  y.dispose()
  rows.offsets.dispose()
})

test('a sample keeps its mask wherever it lies, and backward draws the same', async () => {
  const p = 0.5
  const run = async (keys: number[]) => {
    const x = Parameter.named('x', new Float32Array(keys.length * 2 * 40).fill(1), [keys.length * 2, 40])
    x.trainable = true
    const y = await step(() => {
      const rows = { offsets: i32(...keys.map((_, i) => 2 * i), 2 * keys.length) }
      const y = dropout(x, rows, p, { keys: i32(...keys), state: state(1), site: 0 })
      backward(y, [Tensor.from(new Float32Array(x.count).fill(1), y.shape)])
      return y
    })
    const [values, gradient] = [await y.floats(), await (x.gradient as Tensor).floats()]
    y.dispose()
    x.dispose()
    expect(gradient).toEqual(values)
    return keys.map((_, i) => values.slice(i * 80, (i + 1) * 80))
  }
  const [a, b, c] = await run([11, 12, 13])
  expect(await run([13, 11])).toEqual([c, a])
  expect(b).not.toEqual(a)
  const kept = [...a, ...b, ...c].filter((v) => v > 0).length
  expect(Math.abs(kept / 240 - 0.5)).toBeLessThan(0.15)
})

test('arguments', async () => {
  const rows = { offsets: i32(0, 2) }
  const x = Tensor.zeros([2, 3])
  const keys = { keys: i32(1), state: state(0), site: 0 }
  expect(await codeOf(() => scope(() => dropout(x, rows, 1, keys)))).toBe('E_ARGUMENT')
  expect(await codeOf(() => scope(() => dropout(x, rows, 0.1, { ...keys, keys: i32(1, 2) })))).toBe('E_SHAPE')
  expect(await codeOf(() => scope(() => dropout(x, { offsets: i32(0, 1) }, 0.1, keys)).floats())).toBe('E_INDEX')
})
