import { native } from '../../lib/native.js'
import { linear, sum } from '../../lib/ops.js'
import { backward, Parameter, step, synchronize, Tensor } from '../../lib/tensor.js'

// linear's gate: at zero no work is done, and the gradient is zeros, not absent.
const values = Float32Array.from({ length: 12 }, (_, i) => Math.cos(3 * i))
const residualValues = values.map((v) => v / 3)

let w: Parameter
let gate: Parameter
beforeEach(() => {
  w = Parameter.named(
    'w',
    Float32Array.from({ length: 16 }, (_, i) => Math.sin(i)),
    [4, 4],
  )
  w.trainable = true
  gate = Parameter.named('gate', Float32Array.of(0), [1])
})
afterEach(() => {
  w.dispose()
  gate.dispose()
})

async function run(x: Float32Array): Promise<{ y: number[]; dw: number[] }> {
  const y = await step(() => {
    const out = linear(Tensor.from(x, [3, 4]), w, { gate, residual: Tensor.from(residualValues, [3, 4]) })
    backward(sum(out))
    return out
  })
  const result = { y: Array.from(await y.floats()), dw: Array.from(await w.gradient!.floats()) }
  y.dispose()
  native.zeroGradient(w.id)
  return result
}

test('at zero the result is the residual to the bit and dW exactly zero', async () => {
  const { y, dw } = await run(values)
  expect(y).toEqual(Array.from(residualValues))
  expect(dw).toEqual(new Array(16).fill(0))
})

test('at zero the product is not computed: not even NaN comes through', async () => {
  const { y, dw } = await run(new Float32Array(12).fill(Number.NaN))
  expect(y).toEqual(Array.from(residualValues))
  expect(dw).toEqual(new Array(16).fill(0))
})

test('the gate is read on the device: one tape, another value, another result', async () => {
  const half = async (value: number) => {
    gate.write(Float32Array.of(value))
    const { y } = await run(values)
    return y.map((v, i) => v - residualValues[i])
  }
  const once = await half(1)
  const more = await half(1.25)
  expect(await half(0)).toEqual(once.map(() => 0))
  more.forEach((v, i) => {
    expect(v).toBeCloseTo(1.25 * once[i], 5)
  })
})

test('moments and averages advance while the gate is closed', async () => {
  const [m, v, average] = ['m', 'v', 'average'].map((name) => Parameter.named(name, new Float32Array(16).fill(1), [4, 4]))
  const schedule = Parameter.named('schedule', Float32Array.of(0.1, 1, 1, 0.5), [4])
  const start = await w.floats()
  await step(() => {
    backward(sum(linear(Tensor.from(values, [3, 4]), w, { gate })))
    native.adamw([{ parameter: w.id, m: m.id, v: v.id, average: average.id, decay: 0, lrScale: 1 }], schedule.id, {
      beta1: 0.5,
      beta2: 0.25,
      eps: 0,
      maxNorm: 0,
    })
  })
  await synchronize()
  expect(Array.from(await m.floats())).toEqual(new Array(16).fill(0.5))
  expect(Array.from(await v.floats())).toEqual(new Array(16).fill(0.25))
  const moved = await w.floats()
  moved.forEach((value, i) => {
    expect(value).toBeCloseTo(start[i] - 0.1, 6) // m̂/√v̂ = 0.5/0.5
  })
  for (const [i, value] of (await average.floats()).entries()) expect(value).toBeCloseTo(0.5 + 0.5 * moved[i], 6)
  for (const t of [m, v, average, schedule]) t.dispose()
})
