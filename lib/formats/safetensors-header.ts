/**
 * Validation of a safetensors header: every rule of the format and of its reference reader, plus repeated keys and integers
 * above 2^53. Nothing here touches the data: a header that passes describes tensors that fill the file exactly, without holes
 * and without sharing, so reading any of them stays inside the file.
 *
 * Each broken rule has its own code, `E_SAFETENSORS_…`, named in the table of `SafetensorsRule`.
 */
import { CambiumError } from '../errors.js'
import { type DiskDtype, DTYPE_BITS, isDiskDtype } from './dtype.js'
import { kindOfBytes } from './file-kind.js'
import { parseStrictJson, type StrictJson, StrictJsonError } from './strict-json.js'

/** The largest header that the format allows, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000

/** The rule that a file breaks; the error's code is `E_SAFETENSORS_` + rule. */
export type SafetensorsRule =
  | 'HEADER_TOO_SMALL' // fewer than the eight bytes of the length
  | 'HEADER_TOO_LARGE' // a length over 100 MB
  | 'HEADER_LENGTH' // a header that is longer than the file
  | 'HEADER_UTF8'
  | 'HEADER_JSON' // no JSON, or other types than the format says, or an unknown dtype
  | 'DUPLICATE_KEY'
  | 'OFFSETS' // overlap, hole, end before begin, not starting at zero
  | 'INCOMPLETE' // the data ends before or after the last tensor
  | 'TENSOR_INFO' // shape x dtype is not end - begin
  | 'OVERFLOW' // a size that does not fit into 64 bits
  | 'MISALIGNED' // 4- and 6-bit elements that do not fill whole bytes

/** A tensor of a file: what, and where. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: DiskDtype
  readonly shape: readonly number[]
  /** Number of elements. */
  readonly count: number
  /** Absolute, from the start of the file, in bytes; any alignment. */
  readonly offset: number
  readonly bytes: number
}

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly metadata: ReadonlyMap<string, string>
}

interface RawInfo {
  name: string
  dtype: DiskDtype
  shape: bigint[]
  begin: bigint
  end: bigint
}

const MAX_U64 = 2n ** 64n - 1n

/** Throws the error of a broken rule. */
export function reject(rule: SafetensorsRule, what: string, expected: string, got: string): never {
  throw new CambiumError(`E_SAFETENSORS_${rule}`, `${what}: expected ${expected}, got ${got}`, { details: { rule } })
}

/**
 * The length N of the header, from the first eight bytes. `what` names the file in errors, which say what it is where that can be told.
 * @param first eight bytes, or more to tell by
 * @param fileSize bytes of the whole file
 */
export function headerLength(first: Uint8Array, fileSize: number, what: string): number {
  const refuse = (rule: SafetensorsRule, expected: string, got: string): never => {
    const kind = kindOfBytes(first)
    return kind === undefined ? reject(rule, what, expected, got) : reject(rule, what, 'a safetensors file', kind)
  }
  if (fileSize < 8 || first.byteLength < 8) return refuse('HEADER_TOO_SMALL', 'a safetensors file', `one of ${fileSize} bytes`)
  const length = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true)
  if (length > BigInt(MAX_HEADER_BYTES)) refuse('HEADER_TOO_LARGE', `a header of at most ${MAX_HEADER_BYTES} bytes`, `${length}`)
  if (length > BigInt(fileSize - 8)) refuse('HEADER_LENGTH', `a header inside the file of ${fileSize} bytes`, `one of ${length}`)
  // What follows is an object; a large file of another kind may have a length that fits.
  if (first.byteLength > 8 && first[8] !== 0x7b && first[8] !== 0x20)
    refuse('HEADER_JSON', 'a header that is a JSON object', 'another beginning')
  return Number(length)
}

/** Validates the header's bytes (without the first eight) against the size of the whole file. */
export function parseHeader(bytes: Uint8Array, fileSize: number, what: string): SafetensorsHeader {
  const root = parseJson(bytes, what)
  if (!(root instanceof Map)) return reject('HEADER_JSON', what, 'an object', 'another value')
  let metadata = new Map<string, string>()
  const infos: RawInfo[] = []
  for (const [name, value] of root) {
    if (name === '__metadata__') metadata = parseMetadata(value, what)
    else infos.push(parseInfo(name, value, what))
  }
  const start = 8 + bytes.byteLength
  return { tensors: placeTensors(infos, start, fileSize, what), metadata }
}

function parseJson(bytes: Uint8Array, what: string): StrictJson {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return reject('HEADER_UTF8', what, 'a header in UTF-8', 'other bytes')
  }
  try {
    return parseStrictJson(text)
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error
    return reject(error.duplicateKey === undefined ? 'HEADER_JSON' : 'DUPLICATE_KEY', `${what}: header`, 'JSON', error.message)
  }
}

function parseMetadata(value: StrictJson, what: string): Map<string, string> {
  if (!(value instanceof Map)) return reject('HEADER_JSON', `${what}: __metadata__`, 'an object', 'another value')
  const metadata = new Map<string, string>()
  for (const [key, text] of value) {
    if (typeof text !== 'string') reject('HEADER_JSON', `${what}: __metadata__.${key}`, 'a string', 'another value')
    else metadata.set(key, text)
  }
  return metadata
}

function parseInfo(name: string, value: StrictJson, what: string): RawInfo {
  const where = `${what}: ${name}`
  if (!(value instanceof Map)) return reject('HEADER_JSON', where, 'an object', 'another value')
  const dtype = value.get('dtype')
  if (!isDiskDtype(dtype)) return reject('HEADER_JSON', `${where}: dtype`, 'a known type', typeof dtype === 'string' ? dtype : 'none')
  const shape = naturals(value.get('shape'), `${where}: shape`)
  const offsets = naturals(value.get('data_offsets'), `${where}: data_offsets`)
  if (offsets.length !== 2) reject('HEADER_JSON', `${where}: data_offsets`, 'two numbers', `${offsets.length}`)
  return { name, dtype, shape, begin: offsets[0], end: offsets[1] }
}

function naturals(value: StrictJson | undefined, where: string): bigint[] {
  if (!Array.isArray(value)) return reject('HEADER_JSON', where, 'a list of numbers', 'another value')
  return value.map((entry) => {
    if (typeof entry !== 'bigint' || entry < 0n) return reject('HEADER_JSON', where, 'whole numbers of at least 0', 'another value')
    if (entry > MAX_U64) return reject('HEADER_JSON', where, 'numbers of at most 64 bits', `${entry}`)
    return entry
  })
}

/** In order of the data, each must begin where the one before ends, and the last must end with the file. */
function placeTensors(infos: RawInfo[], start: number, fileSize: number, what: string): Map<string, TensorInfo> {
  infos.sort((a, b) => compare(a.begin, b.begin) || compare(a.end, b.end))
  const tensors = new Map<string, TensorInfo>()
  let reached = 0n
  for (const info of infos) {
    const where = `${what}: ${info.name}`
    if (info.begin !== reached || info.end < info.begin) {
      reject('OFFSETS', where, `data from ${reached} on, without hole or overlap`, `[${info.begin}, ${info.end}]`)
    }
    reached = info.end
    const count = countElements(info, where)
    // All this fits into 2^53 once the end of the file has been checked; until then it is not used.
    const shape = info.shape.map(Number)
    tensors.set(info.name, {
      name: info.name,
      dtype: info.dtype,
      shape,
      count: Number(count),
      offset: start + Number(info.begin),
      bytes: Number(info.end - info.begin),
    })
  }
  const end = BigInt(start) + reached
  if (end !== BigInt(fileSize)) reject('INCOMPLETE', what, `a file of ${end} bytes, as its header says`, `${fileSize}`)
  return tensors
}

function countElements(info: RawInfo, where: string): bigint {
  let count = 1n
  for (const side of info.shape) {
    count *= side
    if (count > MAX_U64) reject('OVERFLOW', where, 'a number of elements below 2^64', `shape [${info.shape.join(', ')}]`)
  }
  const bits = count * BigInt(DTYPE_BITS[info.dtype])
  if (bits > MAX_U64) reject('OVERFLOW', where, 'a size below 2^64 bits', `shape [${info.shape.join(', ')}] of ${info.dtype}`)
  if (bits % 8n !== 0n) reject('MISALIGNED', where, 'whole bytes', `${bits} bits`)
  if (bits / 8n !== info.end - info.begin) {
    reject('TENSOR_INFO', where, `${bits / 8n} bytes for shape [${info.shape.join(', ')}] of ${info.dtype}`, `${info.end - info.begin}`)
  }
  // An empty tensor may carry any other side; one above 2^53 has no use and would be rounded.
  if (info.shape.some((side) => side > BigInt(Number.MAX_SAFE_INTEGER))) {
    reject('OVERFLOW', where, 'sides below 2^53', `shape [${info.shape.join(', ')}]`)
  }
  return count
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}
