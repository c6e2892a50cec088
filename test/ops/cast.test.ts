import { cast, interpolate } from '../../lib/ops.js'
import { step, Tensor } from '../../lib/tensor.js'
import { bf16Bits, floatsOfBf16 } from './bf16.js'
import { normals } from './normals.js'

// Casts are exact where they can be and round to nearest even where they cannot, over every 16-bit value.
const every = Uint16Array.from({ length: 65536 }, (_, i) => i)

async function through(data: Float32Array | Uint16Array, from: 'f32' | 'bf16' | 'f16', to: 'f32' | 'bf16' | 'f16') {
  const y = await step(() => cast(Tensor.from(data, [data.length], from), to))
  const out = await y.data()
  y.dispose()
  return out as Float32Array | Uint16Array
}

/** IEEE half precision from its definition. */
function floatOfHalf(h: number): number {
  const sign = h & 0x8000 ? -1 : 1
  const exponent = (h >> 10) & 31
  const fraction = h & 1023
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}
const isNaN16 = (bits: number, exponent: number) => (bits & exponent) === exponent && (bits & ~exponent & 0x7fff) !== 0

test('every f16 value to f32 and back', async () => {
  const wide = (await through(every, 'f16', 'f32')) as Float32Array
  expect(Array.from(wide)).toEqual(Array.from(every, floatOfHalf))
  const back = await through(wide, 'f32', 'f16')
  every.forEach((bits, i) => {
    if (isNaN16(bits, 0x7c00)) expect(isNaN16(back[i], 0x7c00)).toBe(true)
    else if (back[i] !== bits) throw new Error(`${bits} came back as ${back[i]}`)
  })
})

test('every bf16 value to f32 and back', async () => {
  const wide = (await through(every, 'bf16', 'f32')) as Float32Array
  expect(Array.from(wide)).toEqual(Array.from(floatsOfBf16(every)))
  const back = await through(wide, 'f32', 'bf16')
  every.forEach((bits, i) => {
    if (isNaN16(bits, 0x7f80)) expect(isNaN16(back[i], 0x7f80)).toBe(true)
    else if (back[i] !== bits) throw new Error(`${bits} came back as ${back[i]}`)
  })
})

test('rounding to nearest, ties to even', async () => {
  const ulp = 2 ** -7
  const tie = [1 + ulp / 2, 1 + 1.5 * ulp, 1 + ulp / 2 + 2 ** -20, -(1 + ulp / 2), 3.4e38]
  expect(Array.from(floatsOfBf16((await through(Float32Array.from(tie), 'f32', 'bf16')) as Uint16Array))).toEqual([
    1,
    1 + 2 * ulp,
    1 + ulp,
    -1,
    Number.POSITIVE_INFINITY,
  ])
  // f16: ties, the smallest that overflows, the largest that does not, subnormals and what vanishes
  const half = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 65520, 65519.9, 2 ** -24, 1.5 * 2 ** -24, 2 ** -25, 2.0001 * 2 ** -26, 1e-9, -1e-9]
  const out = Array.from((await through(Float32Array.from(half), 'f32', 'f16')) as Uint16Array, floatOfHalf)
  expect(out).toEqual([1, 1 + 2 ** -9, Number.POSITIVE_INFINITY, 65504, 2 ** -24, 2 ** -23, 0, 2 ** -24, 0, -0])
})

test('random values to bf16 as the reference rounds them', async () => {
  const values = Float32Array.from(normals(5, 4099), (z, i) => z * 2 ** ((i % 80) - 40))
  expect(await through(values, 'f32', 'bf16')).toEqual(bf16Bits(values))
})

test.each(['f32', 'bf16', 'f16'] as const)('interpolate: both ends exactly, between in f32 and rounded once, to %s', async (to) => {
  const a = Float32Array.from(normals(1, 101))
  const b = Float32Array.from(normals(2, 101))
  const at = async (t: number) => {
    const y = await step(() => interpolate(Tensor.from(a, [101]), Tensor.from(b, [101]), t, to))
    const out = await y.data()
    y.dispose()
    return out
  }
  expect(await at(0)).toEqual(await through(a, 'f32', to))
  expect(await at(1)).toEqual(await through(b, 'f32', to))
  const wide = (await through((await at(0.375)) as Float32Array, to, 'f32')) as Float32Array
  const bound = { f32: 2 ** -23, bf16: 2 ** -8, f16: 2 ** -11 }[to]
  wide.forEach((y, i) => {
    const exact = 0.625 * a[i] + 0.375 * b[i]
    expect(Math.abs(y - exact)).toBeLessThanOrEqual(bound * (Math.abs(a[i]) + Math.abs(b[i])))
  })
})
