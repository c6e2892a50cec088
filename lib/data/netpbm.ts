/**
 * Netpbm (PBM, PGM, PPM; P1 to P6, https://netpbm.sourceforge.net/doc/) to 8-bit RGB as Pillow reads it: values are scaled from the
 * file's greatest one, grey of more than 8 bits is scaled to 16 and cut at 255 (Pillow's mode I).
 */
import { type RgbImage, requireSize } from './rgb-image.js'

/** @throws what is wrong with it */
export function decodeNetpbm(bytes: Uint8Array): RgbImage {
  const kind = bytes[1] - 0x30
  const [bitmap, grey, plain] = [kind % 3 === 1, kind % 3 === 2, kind <= 3]
  const read = new Reader(bytes)
  const [width, height, most] = [read.number(), read.number(), bitmap ? 1 : read.number()]
  if (!(most >= 1 && most < 65536)) throw new Error(`a greatest value of ${most}`)
  requireSize(width, height)
  const samples = width * height * (bitmap || grey ? 1 : 3)
  const values = plain ? read.plain(samples, bitmap) : bitmap ? read.bits(width, height) : read.raw(samples, most < 256 ? 1 : 2)
  const range = grey && most > 255 ? 65535 : 255
  const scaled = (value: number) => Math.min(255, most === range ? value : roundHalfEven((Math.min(value, most) / most) * range))
  const data = new Uint8Array(width * height * 3)
  if (!bitmap && !grey) for (let i = 0; i < data.length; i++) data[i] = scaled(values[i])
  else for (let i = 0; i < values.length; i++) data.fill(bitmap ? 255 * (1 - values[i]) : scaled(values[i]), i * 3, i * 3 + 3)
  return { data, width, height }
}

/** As Python rounds. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value)
}

const isSpace = (byte: number): boolean => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)

class Reader {
  private at = 2

  constructor(private readonly bytes: Uint8Array) {}

  /** A number of the header or of a plain file; between them white space, and comments to the end of their lines. */
  number(): number {
    this.skip()
    let value = 0
    const first = this.at
    for (; this.bytes[this.at] >= 0x30 && this.bytes[this.at] <= 0x39 && this.at < first + 10; this.at++)
      value = value * 10 + this.bytes[this.at] - 0x30
    if (this.at === first) throw new Error(this.at >= this.bytes.length ? 'it ends too early' : 'a number is expected where there is none')
    return value
  }

  plain(count: number, bitmap: boolean): Uint16Array {
    if (this.bytes.length - this.at < count) throw new Error('it ends too early')
    const out = new Uint16Array(count)
    for (let i = 0; i < count; i++) out[i] = bitmap ? this.digit() : this.number()
    return out
  }

  raw(count: number, width: 1 | 2): Uint8Array | Uint16Array {
    const data = this.rest(count * width)
    if (width === 1) return data
    return Uint16Array.from({ length: count }, (_, i) => data[2 * i] * 256 + data[2 * i + 1])
  }

  /** Eight to a byte, rows begin at a byte. */
  bits(width: number, height: number): Uint8Array {
    const stride = Math.ceil(width / 8)
    const data = this.rest(stride * height)
    const out = new Uint8Array(width * height)
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) out[y * width + x] = (data[y * stride + (x >> 3)] >> (7 - (x & 7))) & 1
    return out
  }

  /** One character of white space ends the header. */
  private rest(size: number): Uint8Array {
    const data = this.bytes.subarray(this.at + 1, this.at + 1 + size)
    if (data.length < size) throw new Error('it ends too early')
    return data
  }

  /** Digits of plain bitmaps may stand without space between them. */
  private digit(): number {
    this.skip()
    const value = this.bytes[this.at++] - 0x30
    if (value !== 0 && value !== 1) throw new Error('a bit is expected where there is none')
    return value
  }

  private skip(): void {
    for (;;) {
      while (isSpace(this.bytes[this.at])) this.at++
      if (this.bytes[this.at] !== 0x23) return
      while (this.at < this.bytes.length && this.bytes[this.at] !== 0x0a && this.bytes[this.at] !== 0x0d) this.at++
    }
  }
}
