import { native } from '../../lib/native.js'
import { add, attention, cast, gatherRows, layerNorm, linear, multiply, sum } from '../../lib/ops.js'
import { backward, noGradient, Parameter, recompute, step, synchronize, Tensor } from '../../lib/tensor.js'
import { normals } from '../ops/normals.js'
import { codeOf } from './code-of.js'

// recompute(fn, inputs) gives what fn gives, to the bit, and its gradients, without keeping what is in between.
const d = 24
const tokens = 10
const draw = (seed: number, shape: number[], spread = 0.3) =>
  Float32Array.from(
    normals(
      seed,
      shape.reduce((a, b) => a * b, 1),
    ),
    (z) => spread * z,
  )

const parameters: Record<string, Parameter> = {}
beforeAll(() => {
  const shapes = { start: [tokens, d], qkv: [3 * d, d], out: [d, d], norm: [d], bias: [d], up: [2 * d, d], down: [d, 2 * d] }
  Object.entries(shapes).forEach(([name, shape], i) => {
    parameters[name] = Parameter.named(name, draw(i, shape), shape)
    parameters[name].trainable = true
  })
})
afterAll(() => {
  for (const p of Object.values(parameters)) p.dispose()
})

function block(x: Tensor): Tensor {
  const { qkv, out, norm, bias, up, down } = parameters
  const offsets = Tensor.from(Int32Array.of(0, 4, tokens), [3], 'i32')
  const h = layerNorm(x, norm, bias, 1e-5)
  const y = linear(attention(linear(h, qkv), { offsets, batch: 2, maxTokens: 6 }, { heads: 3 }), out, { residual: x })
  return linear(linear(layerNorm(y, norm, bias, 1e-5), up, { activation: 'quick_gelu' }), down, { bias, residual: y })
}

const bits = (values: Float32Array) => Array.from(new Uint32Array(values.buffer, values.byteOffset, values.length))

async function run(body: (x: Tensor) => Tensor): Promise<Record<string, number[]>> {
  const y = await step(() => {
    const result = body(parameters.start)
    backward(result, [Tensor.from(draw(99, [tokens, d]), [tokens, d])])
    return result
  })
  const out: Record<string, number[]> = { y: bits(await y.floats()) }
  y.dispose()
  for (const [name, p] of Object.entries(parameters)) {
    const { gradient } = p
    out[name] = gradient ? bits(await gradient.floats()) : []
    gradient?.dispose()
    native.zeroGradient(p.id)
  }
  return out
}

const again = (fn: (x: Tensor) => Tensor) => (x: Tensor) => recompute((inputs) => [fn(inputs[0])], [x])[0]

test('equals plain to the bit', async () => {
  const plain = await run(block)
  expect(plain.qkv.some((word) => word !== 0)).toBe(true)
  expect(await run(again(block))).toEqual(plain)
})

test('blocks one after the other, and nested ones', async () => {
  const plain = await run((x) => block(block(x)))
  expect(await run((x) => again(block)(again(block)(x)))).toEqual(plain)
  expect(await run(again((x) => block(block(x))))).toEqual(plain)
  expect(await run(again((x) => again(block)(block(x))))).toEqual(plain)
  expect(await run(again((x) => again(again(block))(again(block)(x))))).toEqual(plain)
})

test('values in flight and bf16 ones as inputs', async () => {
  const rounded = (fn: (x: Tensor) => Tensor) => (x: Tensor) => cast(fn(cast(x, 'bf16')), 'f32')
  const inside = (x: Tensor) => linear(x, parameters.out, { residual: x, dtype: 'bf16' })
  expect(await run(rounded(again(inside)))).toEqual(await run(rounded(inside)))
})

test('keeps less memory', async () => {
  const peak = async (body: (x: Tensor) => Tensor) => {
    await run(body)
    await synchronize()
    native.resetPeak()
    const { peak } = native.memory() // what lives, and scratch of test files before this one in the process
    await run(body)
    return native.memory().peak - peak
  }
  const deep = (fn: (x: Tensor) => Tensor) => (x: Tensor) => {
    for (let i = 0; i < 80; ++i) x = fn(x)
    return x
  }
  expect(await peak(deep(again(block)))).toBeLessThan(0.5 * (await peak(deep(block))))
})

test('several outputs, of which one is used; an input that is not; inputs returned as they are', async () => {
  const pair = (x: Tensor, other: Tensor) => recompute(([a]) => [multiply(a, a), a, sum(a)], [x, other])
  const loss = async (body: (x: Tensor) => Tensor) => (await run(body)).start
  expect(await loss((x) => pair(x, x)[0])).toEqual(await loss((x) => multiply(x, x)))
  expect(await loss((x) => pair(x, x)[1])).toEqual(await loss((x) => add(x, Tensor.zeros([tokens, d]))))
})

test('inside noGradient nothing is recorded', async () => {
  let calls = 0
  const once = ([x]: Tensor[]) => {
    ++calls
    return [block(x)]
  }
  const body = () => backward(sum(noGradient(() => recompute(once, [parameters.start]))[0]))
  expect(await codeOf(() => step(body))).toBe('E_NO_GRADIENT')
  expect(calls).toBe(1)
})

test('a value from outside that is no input is an error: its gradient would be lost', async () => {
  const body = () => {
    const outside = gatherRows(parameters.start, Tensor.from(Int32Array.of(0), [1], 'i32'))
    backward(sum(recompute(([x]) => [add(x, outside)], [gatherRows(parameters.start, Tensor.zeros([1], 'i32'))])[0]))
  }
  expect(await codeOf(() => step(body))).toBe('E_NO_GRADIENT')
})
