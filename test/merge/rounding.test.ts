import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openCheckpoint, writeCheckpoint } from '../../lib/formats/checkpoint.js'
import { writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { mergeFolder } from '../../lib/merge/merge-folder.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from '../temporary-folder.js'
import { bytesOf, halfUlp } from './made-up.js'

const root = temporaryFolder()

/** The value of a 16-bit code. */
function halfValue(code: number, dtype: 'BF16' | 'F16'): number {
  const [digits, bias] = dtype === 'BF16' ? [7, 127] : [10, 15]
  const exponent = (code & 0x7fff) >> digits
  const mantissa = code & ((1 << digits) - 1)
  const size = exponent === 0 ? mantissa * 2 ** (1 - bias - digits) : (2 ** digits + mantissa) * 2 ** (exponent - bias - digits)
  return code & 0x8000 ? -size : size
}

const words = new BigInt64Array(1)
const view = new Float64Array(words.buffer)
/** The neighbour of a positive double. */
function next(x: number, by: bigint): number {
  view[0] = x
  words[0] += by
  return view[0]
}

test.each(['BF16', 'F16'] as const)('f64 to %s: every value, every midpoint and its neighbours, rounded once to even', async (dtype) => {
  const infinity = dtype === 'BF16' ? 0x7f80 : 0x7c00
  const values: number[] = []
  const want: number[] = []
  for (let code = 0; code < infinity; code++) {
    const here = halfValue(code, dtype)
    const above = code + 1 < infinity ? halfValue(code + 1, dtype) : 2 * here - halfValue(code - 1, dtype)
    const middle = (here + above) / 2
    const even = code % 2 === 0 ? code : code + 1
    values.push(here, -here, middle, -middle, next(middle, -1n), next(middle, 1n), -next(middle, 1n))
    want.push(code, code | 0x8000, even, even | 0x8000, code, code + 1, (code + 1) | 0x8000)
  }
  values.push(1e300, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 1e-300)
  want.push(infinity, infinity, infinity | 0x8000, Number.NaN, 0)
  const model = join(root, dtype)
  mkdirSync(model)
  await writeCheckpoint(model, [
    { name: 'x', dtype: 'F64', shape: [values.length], data: new Uint8Array(Float64Array.from(values).buffer) },
  ])
  const out = join(root, `${dtype}-out`)
  const { nonFinite } = await mergeFolder({ model, adapter: [], out, dtype: dtype === 'BF16' ? 'bf16' : 'f16' })
  expect(nonFinite.x).toBe(4 + 4) // the last midpoint and what lies above it overflow too
  const tensor = (await openCheckpoint(out)).tensors.get('x')
  if (tensor === undefined) throw new Error('x')
  const { path, offset, count, fileSize } = tensor
  const got = new Uint16Array(await native.readTensor({ path, offset, count, from: dtype, to: dtype, expectedSize: fileSize }))
  const wrong: unknown[] = []
  for (let i = 0; i < want.length; i++) {
    const isNaN16 = (got[i] & infinity) === infinity && (got[i] & ~(infinity | 0x8000)) !== 0
    if (Number.isNaN(want[i]) ? !isNaN16 : got[i] !== want[i]) wrong.push([values[i], got[i], want[i]])
  }
  expect(wrong.slice(0, 5)).toEqual([])
})

// Half a unit of each column's values is the first term of the product, and a tenth of a billionth of that, up, down or not at
// all by the row, is the second: in f32 every sum is the midpoint itself, so only the doubt about it tells which way it rounds.
test('low-rank changes of bf16 that end beside a midpoint are rounded as float64 says', async () => {
  const [rows, columns, module] = [8, 96, 'blocks.0.proj']
  const code = (i: number, j: number) => ((100 + (j % 50)) << 7) | ((i * 37 + j * 11) % 128)
  const half = (j: number) => halfUlp(halfValue(code(0, j), 'BF16'), 'BF16')
  const side = (i: number) => [1, -1, 0][i % 3]
  const model = join(root, 'ties')
  mkdirSync(model)
  const codes = Uint16Array.from({ length: rows * columns }, (_, at) => code(Math.floor(at / columns), at % columns))
  const data = new Uint8Array(codes.buffer)
  await writeCheckpoint(model, [{ name: `${module}.weight`, dtype: 'BF16', shape: [rows, columns], data }])
  const config = { peft_type: 'LORA', r: 2, lora_alpha: 2, target_modules: ['proj'] }
  writeFileSync(join(model, 'adapter_config.json'), JSON.stringify(config))
  const a = Array.from({ length: 2 * columns }, (_, at) => (at < columns ? half(at) : half(at - columns) * 2 ** -33))
  const b = Array.from({ length: rows }, (_, i) => [1, side(i)]).flat()
  await writeSafetensors(join(model, 'adapter_model.safetensors'), [
    { name: `base_model.model.${module}.lora_A.weight`, dtype: 'F32', shape: [2, columns], data: bytesOf(a, 'F32') },
    { name: `base_model.model.${module}.lora_B.weight`, dtype: 'F32', shape: [rows, 2], data: bytesOf(b, 'F32') },
  ])
  const out = join(root, 'ties-out')
  await mergeFolder({ model, adapter: model, out })
  const tensor = (await openCheckpoint(out)).tensors.get(`${module}.weight`)
  if (tensor === undefined) throw new Error(module)
  const { path, offset, count, fileSize } = tensor
  const got = new Uint16Array(await native.readTensor({ path, offset, count, from: 'BF16', to: 'BF16', expectedSize: fileSize }))
  const want = codes.map((bits, at) => bits + ([1, 0, bits % 2][Math.floor(at / columns) % 3] as number)) // up, down, to even
  expect([...got]).toEqual([...want])
})
