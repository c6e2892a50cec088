/** Small checkpoints of architectures that do not exist, and PEFT adapters for them. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeCheckpoint } from '../../lib/formats/checkpoint.js'
import { type DiskDtype, DTYPE_BITS, isReadableDtype } from '../../lib/formats/dtype.js'
import { type TensorToWrite, writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { native } from '../../lib/native.js'

/** Numbers in (-1, 1) · size that repeat from run to run. */
export function numbers(count: number, seed: number, size = 1): Float32Array {
  return native.random(seed, 0, 0, count, 0).map((u) => (2 * u - 1) * size)
}

/** Values in a file's type; rounded to nearest even as JavaScript does it, or cut for the 16-bit types. */
export function bytesOf(values: ArrayLike<number>, dtype: DiskDtype): Uint8Array {
  if (dtype === 'F64') return new Uint8Array(Float64Array.from(values).buffer)
  const f32 = Float32Array.from(values)
  if (dtype === 'F32') return new Uint8Array(f32.buffer)
  if (dtype === 'BF16') return new Uint8Array(Uint16Array.from(new Uint32Array(f32.buffer), (bits) => bits >>> 16).buffer)
  if (dtype === 'F16') return new Uint8Array(Uint16Array.from(new Uint32Array(f32.buffer), toHalf).buffer)
  return Uint8Array.from({ length: (values.length * DTYPE_BITS[dtype]) / 8 }, (_, i) => (i * 37) % 251)
}

/** f32 bits to f16 bits for |x| in [2^-14, 65504), cut. */
function toHalf(bits: number): number {
  const magnitude = bits & 0x7fffffff
  return ((bits >>> 16) & 0x8000) | (magnitude < 0x38800000 ? 0 : (magnitude - 0x38000000) >>> 13)
}

export type Spec = Readonly<Record<string, { shape: readonly number[]; dtype?: DiskDtype; size?: number }>>

export function tensors(spec: Spec, seed = 1): TensorToWrite[] {
  return Object.entries(spec).map(([name, { shape, dtype = 'F32', size = 0.2 }], i) => {
    const count = shape.reduce((product, side) => product * side, 1)
    return { name, dtype, shape, data: bytesOf(numbers(count, seed * 1000 + i, size), dtype) }
  })
}

/** A folder with weights, a configuration and what does not belong to either. */
export async function madeUpCheckpoint(folder: string, spec: Spec, options: { shards?: number; seed?: number } = {}): Promise<string> {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'config.json'), '{"model_type": "made-up", "torch_dtype": "bfloat16"}\n')
  writeFileSync(join(folder, 'tokenizer.json'), '{}\n')
  const all = tensors(spec, options.seed)
  const bytes = all.reduce((sum, { data }) => sum + (data as Uint8Array).byteLength, 0)
  await writeCheckpoint(folder, all, {
    maxShardBytes: options.shards ? Math.ceil(bytes / options.shards) : undefined,
    metadata: { format: 'pt', author: 'nobody' },
  })
  return folder
}

export interface MadeUpAdapter {
  rank?: number
  alpha?: number
  /** module -> [out, in] */
  modules: Readonly<Record<string, readonly [number, number]>>
  config?: Readonly<Record<string, unknown>>
  dtype?: DiskDtype
  dora?: boolean
  /** more tensors, by the adapter's names */
  more?: Spec
  seed?: number
  size?: number
}

export async function madeUpAdapter(folder: string, options: MadeUpAdapter): Promise<string> {
  const { rank = 4, alpha = 8, modules, dtype = 'F32', dora = false, more = {}, seed = 7, size = 0.1 } = options
  mkdirSync(folder, { recursive: true })
  const spec: Record<string, Spec[string]> = { ...more }
  for (const [module, [out, inner]] of Object.entries(modules)) {
    spec[`base_model.model.${module}.lora_A.weight`] = { shape: [rank, inner], dtype, size }
    spec[`base_model.model.${module}.lora_B.weight`] = { shape: [out, rank], dtype, size }
    if (dora) spec[`base_model.model.${module}.lora_magnitude_vector`] = { shape: [out], dtype, size: 1 }
  }
  const config = { peft_type: 'LORA', r: rank, lora_alpha: alpha, target_modules: Object.keys(modules), use_dora: dora, ...options.config }
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config))
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors(spec, seed))
  return folder
}

/** A tensor's values as doubles. */
export async function doubles(tensor: {
  path: string
  offset: number
  count: number
  dtype: string
  fileSize: number
}): Promise<Float64Array> {
  const { path, offset, count, dtype, fileSize } = tensor
  if (!isReadableDtype(dtype)) throw new Error(dtype)
  return new Float64Array(await native.readTensor({ path, offset, count, from: dtype, to: 'F64', expectedSize: fileSize }))
}

const { abs, floor, log2, max } = Math
const DIGITS: Readonly<Record<string, number>> = { F64: 52, F32: 23, BF16: 7, F16: 10 }

/** Half a unit in the last place of `dtype` around x. */
export function halfUlp(x: number, dtype: string): number {
  const least = dtype === 'F16' ? -14 : -126
  const exponent = x === 0 ? least : max(least, floor(log2(abs(x))))
  return 2 ** (exponent - DIGITS[dtype] - 1)
}
