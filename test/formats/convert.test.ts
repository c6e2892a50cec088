/** Conversion of element types while reading, against references in JavaScript's doubles. */
import { join } from 'node:path'
import type { DiskDtype } from '../../lib/formats/dtype.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from '../temporary-folder.js'

const path = join(temporaryFolder(), 'values.safetensors')

async function convert(values: ArrayBufferView & ArrayLike<unknown>, from: DiskDtype, to: string): Promise<ArrayBuffer> {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  await writeSafetensors(path, [{ name: 'v', dtype: from, shape: [values.length], data }])
  const { tensors, size } = await openSafetensors(path)
  const { offset, count, dtype } = tensors.get('v')!
  return native.readTensor({ path, offset, count, from: dtype, to, expectedSize: size })
}

/** The nearest of the numbers m · 2^(e - bits), ties to even, as a double; e is at least `least`. */
function rounded(value: number, bits: number, least: number, most: number): number {
  if (value === 0 || !Number.isFinite(value)) return value
  const size = Math.abs(value)
  let exponent = Math.floor(Math.log2(size))
  if (2 ** exponent > size) exponent -= 1
  if (2 ** (exponent + 1) <= size) exponent += 1
  const unit = 2 ** (Math.max(exponent, least) - bits)
  const floor = Math.floor(size / unit)
  const rest = size / unit - floor
  const nearest = (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor) * unit
  return Math.sign(value) * (nearest >= most ? Number.POSITIVE_INFINITY : nearest)
}
const toHalf = (value: number) => rounded(value, 10, -14, 65536)
const toBrain = (value: number) => rounded(value, 7, -126, 2 ** 128)

function halfValue(bits: number): number {
  const [sign, exponent, mantissa] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023]
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25))
}
const brainValue = (bits: number) => new Float32Array(Uint32Array.of(bits * 65536).buffer)[0]
const every = Uint16Array.from({ length: 65536 }, (_, i) => i)
const equal = (got: ArrayLike<number>, want: (i: number) => number) => {
  for (let i = 0; i < got.length; i++) if (!Object.is(got[i], want(i))) throw new Error(`element ${i}: expected ${want(i)}, got ${got[i]}`)
}

test('every half and every bfloat16 to f32', async () => {
  equal(new Float32Array(await convert(every, 'F16', 'f32')), (i) => halfValue(i))
  equal(new Float32Array(await convert(every, 'BF16', 'f32')), (i) => brainValue(i))
})

test('every half to bfloat16, and every bfloat16 to half', async () => {
  equal([...new Uint16Array(await convert(every, 'F16', 'bf16'))].map(brainValue), (i) => toBrain(halfValue(i)))
  equal([...new Uint16Array(await convert(every, 'BF16', 'f16'))].map(halfValue), (i) => toHalf(brainValue(i)))
})

/** Between neighbours of both 16-bit types: the middle, and a hair beside it. */
const hard = Float64Array.from({ length: 63488 }, (_, i) => {
  const [low, high] = i % 2 === 0 ? [halfValue(i >> 1), halfValue((i >> 1) + 1)] : [brainValue(i >> 1), brainValue((i >> 1) + 1)]
  return ((low + high) / 2) * (1 + [0, 2 ** -40, -(2 ** -40)][i % 3]) * (i % 5 === 0 ? -1 : 1)
}).filter(Number.isFinite)

test('f32 is rounded once, to nearest even', async () => {
  const values = Float32Array.from(hard)
  equal([...new Uint16Array(await convert(values, 'F32', 'f16'))].map(halfValue), (i) => toHalf(values[i]))
  equal([...new Uint16Array(await convert(values, 'F32', 'bf16'))].map(brainValue), (i) => toBrain(values[i]))
})

test('f64 is rounded once too, not first to f32', async () => {
  expect(hard.some((value) => toHalf(value) !== toHalf(Math.fround(value)))).toBe(true)
  equal(new Float32Array(await convert(hard, 'F64', 'f32')), (i) => Math.fround(hard[i]))
  equal([...new Uint16Array(await convert(hard, 'F64', 'f16'))].map(halfValue), (i) => toHalf(hard[i]))
  equal([...new Uint16Array(await convert(hard, 'F64', 'bf16'))].map(brainValue), (i) => toBrain(hard[i]))
})

test('infinities and NaN stay what they are', async () => {
  const special = Float32Array.of(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 3e38, -0)
  equal([...new Uint16Array(await convert(special, 'F32', 'f16'))].map(halfValue), (i) => toHalf(special[i]))
  equal([...new Uint16Array(await convert(special, 'F32', 'bf16'))].map(brainValue), (i) => toBrain(special[i]))
})

test('integers', async () => {
  const wide = BigInt64Array.of(-(2n ** 31n), 2n ** 31n - 1n, 0n, -7n)
  expect([...new Int32Array(await convert(wide, 'I64', 'i32'))]).toEqual([...wide].map(Number))
  expect([...new Float32Array(await convert(wide, 'I64', 'f32'))]).toEqual([...wide].map((value) => Math.fround(Number(value))))
  expect([...new Float32Array(await convert(Uint8Array.of(0, 1, 255), 'U8', 'f32'))]).toEqual([0, 1, 255])
  expect([...new Uint8Array(await convert(Uint8Array.of(0, 1), 'BOOL', 'u8'))]).toEqual([0, 1])
})

test.each<[string, ArrayBufferView & ArrayLike<unknown>, DiskDtype, string, string]>([
  ['an integer that does not fit', BigInt64Array.of(2n ** 31n), 'I64', 'i32', 'E_RANGE'],
  ['a negative byte', Int32Array.of(-1), 'I32', 'u8', 'E_RANGE'],
  ['u64 as a negative number', BigUint64Array.of(2n ** 63n), 'U64', 'i64', 'E_RANGE'],
  ['fractions as integers', Float32Array.of(1), 'F32', 'i32', 'E_DTYPE'],
])('%s is refused', async (_, values, from, to, code) => {
  await expect(convert(values, from, to)).rejects.toMatchObject({ code })
})

test('more than one piece of the read buffer', async () => {
  const many = Uint16Array.from({ length: 1_300_000 }, (_, i) => i % 31744)
  const got = new Float32Array(await convert(many, 'F16', 'f32'))
  equal(got.subarray(520_000, 530_000), (i) => halfValue((520_000 + i) % 31744))
  expect(got[1_299_999]).toBe(halfValue(1_299_999 % 31744))
})
