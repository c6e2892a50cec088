/**
 * Windows bitmaps (BMP) of 1, 4, 8, 16, 24 and 32 bits to 8-bit RGB, as Pillow reads them: palettes are looked up, fields of fewer
 * than 8 bits are stretched, alpha is dropped. Those compressed by run lengths, or with a JPEG or PNG inside, are refused.
 */
import { type RgbImage, requireSize } from './rgb-image.js'

const PLAIN = 0
const BIT_FIELDS = 3

interface Header {
  readonly width: number
  readonly height: number
  readonly topDown: boolean
  readonly bits: number
  /** of red, green and blue in a pixel of 16 or 32 bits */
  readonly masks: readonly number[]
  /** RGB one after the other; empty where there is none */
  readonly palette: Uint8Array
  /** of the pixels */
  readonly offset: number
}

/** @throws what is wrong with it */
export function decodeBmp(bytes: Uint8Array): RgbImage {
  const header = readHeader(bytes)
  const { width, height, topDown, bits, offset } = header
  const stride = Math.ceil((width * bits) / 32) * 4
  if (offset + stride * height > bytes.length) throw new Error('it ends too early')
  const data = new Uint8Array(width * height * 3)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const row = bits <= 8 ? indexedRow : bits === 24 ? plainRow : fieldsRow
  for (let y = 0; y < height; y++) {
    const from = offset + (topDown ? y : height - 1 - y) * stride
    row(view, from, header, data.subarray(y * width * 3, (y + 1) * width * 3))
  }
  return { data, width, height }
}

function readHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 26) throw new Error('it ends too early')
  const [offset, size] = [view.getUint32(10, true), view.getUint32(14, true)]
  const old = size === 12 // OS/2
  if (!old && (size < 40 || bytes.length < 14 + size)) throw new Error(`a header of ${size} bytes`)
  const signed = old ? view.getUint16(20, true) : view.getInt32(22, true)
  const [width, height] = [old ? view.getUint16(18, true) : view.getInt32(18, true), Math.abs(signed)]
  const bits = view.getUint16(old ? 24 : 28, true)
  const compression = old ? PLAIN : view.getUint32(30, true)
  if (![1, 4, 8, 16, 24, 32].includes(bits)) throw new Error(`${bits} bits a pixel`)
  if (compression !== PLAIN && !(compression === BIT_FIELDS && (bits === 16 || bits === 32)))
    throw new Error(`compression ${compression}, which is not read`)
  requireSize(width, height)
  const palette = bits > 8 ? new Uint8Array(0) : readPalette(bytes, 14 + size, old ? 3 : 4, paletteSize(view, old, bits))
  const masks = compression === BIT_FIELDS ? readMasks(view) : bits === 16 ? [0x7c00, 0x3e0, 0x1f] : [0xff0000, 0xff00, 0xff]
  return { width, height, topDown: signed < 0, bits, masks, palette, offset }
}

function paletteSize(view: DataView, old: boolean, bits: number): number {
  const used = old ? 0 : view.getUint32(46, true)
  return used > 0 && used < 1 << bits ? used : 1 << bits
}

/** Entries of blue, green, red and, but for OS/2, a byte of nothing. */
function readPalette(bytes: Uint8Array, at: number, step: number, count: number): Uint8Array {
  if (at + count * step > bytes.length) throw new Error('it ends too early')
  return Uint8Array.from({ length: count * 3 }, (_, i) => bytes[at + Math.floor(i / 3) * step + 2 - (i % 3)])
}

/** Behind a header of 40 bytes, and at that place inside a longer one. */
function readMasks(view: DataView): number[] {
  if (view.byteLength < 66) throw new Error('it ends too early')
  const masks = [54, 58, 62].map((at) => view.getUint32(at, true))
  if (masks.includes(0)) throw new Error('a colour without a field')
  return masks
}

type Row = (view: DataView, from: number, header: Header, out: Uint8Array) => void

const indexedRow: Row = (view, from, { bits, palette }, out) => {
  const perByte = 8 / bits
  for (let x = 0; x < out.length / 3; x++) {
    const index = (view.getUint8(from + Math.floor(x / perByte)) >> (8 - bits * ((x % perByte) + 1))) & ((1 << bits) - 1)
    if (index * 3 >= palette.length) throw new Error(`a colour ${index} that its palette does not have`)
    for (let c = 0; c < 3; c++) out[3 * x + c] = palette[3 * index + c]
  }
}

const plainRow: Row = (view, from, _, out) => {
  for (let i = 0; i < out.length; i += 3) for (let c = 0; c < 3; c++) out[i + c] = view.getUint8(from + i + 2 - c)
}

const fieldsRow: Row = (view, from, { bits, masks }, out) => {
  const fields = masks.map((mask) => ({ shift: 31 - Math.clz32(mask & -mask), mask: mask >>> 0 }))
  for (let x = 0; x < out.length / 3; x++) {
    const pixel = bits === 16 ? view.getUint16(from + 2 * x, true) : view.getUint32(from + 4 * x, true)
    for (const [c, { shift, mask }] of fields.entries()) out[3 * x + c] = Math.floor((((pixel & mask) >>> shift) * 255) / (mask >>> shift))
  }
}
