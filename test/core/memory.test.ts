import { native } from '../../lib/native.js'
import { add, attention, layerNorm, linear, sum } from '../../lib/ops.js'
import { backward, Parameter, step, synchronize, Tensor } from '../../lib/tensor.js'

// What lives is known to the byte, the peak is known, and nothing stays behind.
const named = (name: string, shape: number[]) => {
  const p = Parameter.named(name, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.01), shape)
  p.trainable = true
  return p
}

test('live bytes return to the start after a step, the peak stays known', async () => {
  await synchronize()
  const w = named('w', [256, 256])
  native.resetPeak()
  const start = native.memory()
  await step(() => void add(linear(Tensor.zeros([64, 256]), w), Tensor.zeros([64, 256])))
  await synchronize()
  const end = native.memory()
  expect(end.live).toBe(start.live)
  expect(end.tensors).toBe(start.tensors)
  expect(end.peak).toBeGreaterThanOrEqual(start.live + 4 * 64 * 256 * 4)
  native.resetPeak()
  expect(native.memory().peak).toBeLessThan(end.peak)
  w.dispose()
})

test('a frozen weight costs neither a gradient nor saved activations', async () => {
  await synchronize()
  const peak = async (trains: boolean) => {
    const weights = Array.from({ length: 8 }, (_, i) => named(`w${i}`, [128, 128]))
    for (const w of weights) w.trainable = trains
    native.resetPeak()
    const start = native.memory().peak
    await step(() => {
      let x = Tensor.zeros([1024, 128])
      for (const w of weights) {
        const y = linear(x, w)
        x.dispose() // the handle; the tape keeps what it needs
        x = y
      }
    })
    await synchronize()
    const { peak } = native.memory()
    for (const w of weights) w.dispose()
    return peak - start
  }
  const activation = 1024 * 128 * 4
  expect(await peak(false)).toBeLessThan(4 * activation)
  expect(await peak(true)).toBeGreaterThanOrEqual(8 * activation)
})

test('scratch memory counts in the peak', async () => {
  await synchronize()
  const n = 3000
  native.resetPeak()
  const before = native.memory()
  const w = named('w', [n])
  await step(() => backward(sum(layerNorm(Tensor.zeros([512, n]), w, w, 1e-5))))
  await synchronize()
  const after = native.memory()
  expect(after.peak - before.live).toBeGreaterThan(2 * 512 * n * 4)
  w.dispose()
})

test('two thousand small steps leave nothing behind', async () => {
  const w = named('w', [192, 64])
  const m = named('m', [192, 64])
  const v = named('v', [192, 64])
  const schedule = Parameter.named('schedule', Float32Array.of(1e-3, 0.1, 0.001, 0), [4])
  const small = () =>
    step(() => {
      const x = Tensor.zeros([6, 64], 'bf16')
      const offsets = Tensor.from(Int32Array.of(0, 2, 6), [3], 'i32')
      const y = attention(linear(x, w), { offsets, batch: 2, maxTokens: 4 }, { heads: 4, causal: true })
      backward(sum(y))
      native.adamw([{ parameter: w.id, m: m.id, v: v.id, average: 0, decay: 0, lrScale: 1 }], schedule.id, {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        maxNorm: 1,
      })
    })
  for (let i = 0; i < 200; ++i) await small()
  await synchronize()
  const before = native.memory()
  const resident = process.memoryUsage().rss
  for (let i = 0; i < 2000; ++i) await small()
  await synchronize()
  const after = native.memory()
  expect({ live: after.live, reserved: after.reserved, tensors: after.tensors }).toEqual({
    live: before.live,
    reserved: before.reserved,
    tensors: before.tensors,
  })
  // A packed copy of w that stayed behind in each step (24 KB) would be 48 MB.
  expect(process.memoryUsage().rss - resident).toBeLessThan(32 * 2 ** 20)
  for (const t of [w, m, v, schedule]) t.dispose()
})

test('trim gives unused memory back', async () => {
  const big = Tensor.zeros([2 ** 24])
  await synchronize()
  const { reserved } = native.memory()
  big.dispose()
  native.trim()
  expect(native.memory().reserved).toBeLessThanOrEqual(reserved - 2 ** 26)
})
