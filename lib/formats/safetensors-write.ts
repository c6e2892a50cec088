/**
 * Writing safetensors: tensors sorted by alignment (widest first), then name; the header padded with spaces to a multiple of
 * eight; streamed one tensor at a time and atomic.
 */
import { CambiumError } from '../errors.js'
import { AtomicFile } from './atomic-file.js'
import { type DiskDtype, DTYPE_BITS } from './dtype.js'
import { MAX_HEADER_BYTES } from './safetensors-header.js'

/** A tensor to write. `data`: its bytes, row-major and little-endian, or a function that gives them when their turn comes. */
export interface TensorToWrite {
  readonly name: string
  readonly dtype: DiskDtype
  readonly shape: readonly number[]
  readonly data: Uint8Array | (() => Uint8Array | Promise<Uint8Array>)
}

export interface WriteOptions {
  /** String to string; by default `{ format: 'pt' }`, which transformers asks for. */
  metadata?: Readonly<Record<string, string>>
  signal?: AbortSignal
}

/** Bytes of a tensor. Throws E_SHAPE for sides that are no natural numbers, sizes above 2^53 and half bytes. */
export function tensorBytes(tensor: Pick<TensorToWrite, 'name' | 'dtype' | 'shape'>): number {
  const bits = tensor.shape.reduce((product, side) => product * side, DTYPE_BITS[tensor.dtype])
  if (!tensor.shape.every((side) => Number.isSafeInteger(side) && side >= 0) || !Number.isSafeInteger(bits) || bits % 8 !== 0) {
    throw new CambiumError(
      'E_SHAPE',
      `${tensor.name}: expected a shape of whole bytes below 2^53, got [${tensor.shape}] of ${tensor.dtype}`,
    )
  }
  return bits / 8
}

/** Writes one file. Errors: E_SHAPE, E_DUPLICATE, E_NO_SPACE, E_IO; after an error `path` is as it was. */
export async function writeSafetensors(path: string, tensors: readonly TensorToWrite[], options: WriteOptions = {}): Promise<void> {
  const sorted = [...tensors].sort(byAlignmentThenName)
  const header = encodeHeader(sorted, options.metadata ?? { format: 'pt' })
  const file = await AtomicFile.open(path)
  try {
    await file.write(header)
    for (const tensor of sorted) {
      options.signal?.throwIfAborted()
      const bytes = typeof tensor.data === 'function' ? await tensor.data() : tensor.data
      const expected = tensorBytes(tensor)
      if (bytes.byteLength !== expected) {
        throw new CambiumError(
          'E_SHAPE',
          `${tensor.name}: expected ${expected} bytes for [${tensor.shape}] of ${tensor.dtype}, got ${bytes.byteLength}`,
        )
      }
      await file.write(bytes)
    }
    await file.commit()
  } finally {
    await file.abort()
  }
}

function byAlignmentThenName(a: TensorToWrite, b: TensorToWrite): number {
  return DTYPE_BITS[b.dtype] - DTYPE_BITS[a.dtype] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
}

/** The first bytes of a file that holds these tensors in this order. */
export function encodeHeader(sorted: readonly Omit<TensorToWrite, 'data'>[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries = [`"__metadata__":${JSON.stringify(metadata)}`]
  const seen = new Set<string>(['__metadata__'])
  let offset = 0
  for (const tensor of sorted) {
    if (seen.has(tensor.name)) throw new CambiumError('E_DUPLICATE', `${tensor.name}: expected each tensor once, got it again`)
    seen.add(tensor.name)
    const end = offset + tensorBytes(tensor)
    entries.push(
      `${JSON.stringify(tensor.name)}:${JSON.stringify({ dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, end] })}`,
    )
    offset = end
  }
  const json = new TextEncoder().encode(`{${entries.join(',')}}`)
  const length = Math.ceil(json.byteLength / 8) * 8
  if (length > MAX_HEADER_BYTES)
    throw new CambiumError('E_SHAPE', `safetensors: expected a header of at most ${MAX_HEADER_BYTES} bytes, got ${length}`)
  const bytes = new Uint8Array(8 + length).fill(0x20)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true)
  bytes.set(json, 8)
  return bytes
}
