/** What a file is by its first bytes, in words for errors: people hand over what a download or a repository left in a file's place. */
import { FileHandle } from '../files.js'

/** How many bytes are looked at. */
export const LOOK = 1024

interface Signature {
  readonly words: string
  is(bytes: Buffer): boolean
}

const latin1 = (bytes: Buffer, from: number, to: number): string => bytes.toString('latin1', from, to)
const starts = (magic: string) => (bytes: Buffer) => latin1(bytes, 0, magic.length) === magic
const textual = (pattern: RegExp) => (bytes: Buffer) => pattern.test(latin1(bytes, 0, LOOK))

/** Formats of images, by the names that they have. */
export const IMAGE_FORMATS = {
  JPEG: starts('\xff\xd8'),
  PNG: starts('\x89PNG'),
  WebP: (bytes: Buffer) => starts('RIFF')(bytes) && latin1(bytes, 8, 12) === 'WEBP',
  GIF: starts('GIF8'),
  TIFF: (bytes: Buffer) => ['II*\0', 'MM\0*', 'II+\0', 'MM\0+'].includes(latin1(bytes, 0, 4)),
  AVIF: (bytes: Buffer) => /^ftyp(avi[fs]|mif1)/.test(latin1(bytes, 4, 12)),
  BMP: (bytes: Buffer) => starts('BM')(bytes) && latin1(bytes, 6, 10) === '\0\0\0\0',
  Netpbm: textual(/^P[1-6]\s+(?:#|\d)/),
  SVG: textual(/<svg[\s>]/),
} as const

export type ImageFormat = keyof typeof IMAGE_FORMATS

export function imageFormat(bytes: Buffer): ImageFormat | undefined {
  return (Object.keys(IMAGE_FORMATS) as ImageFormat[]).find((name) => IMAGE_FORMATS[name](bytes))
}

const TEXT = 'a text that begins'
const PICKLE = 'pickled weights (PyTorch)'
const SIGNATURES: readonly Signature[] = [
  { words: 'a pointer of git-lfs: git lfs pull fetches the file', is: starts('version https://git-lfs') },
  { words: PICKLE, is: (bytes) => bytes[0] === 0x80 && bytes[1] >= 2 && bytes[1] <= 5 },
  { words: PICKLE, is: (bytes) => starts('PK\x03\x04')(bytes) && /\/(data\.pkl|byteorder|\.format_version)/.test(latin1(bytes, 0, LOOK)) },
  { words: 'a zip archive', is: starts('PK\x03\x04') },
  { words: 'weights in GGUF (llama.cpp)', is: starts('GGUF') },
  { words: 'an HDF5 file (Keras)', is: starts('\x89HDF\r\n') },
  { words: 'a NumPy array', is: starts('\x93NUMPY') },
  { words: 'a model for TensorFlow Lite', is: (bytes) => latin1(bytes, 4, 8) === 'TFL3' },
  { words: 'an ONNX model', is: (bytes) => bytes[0] === 0x08 && bytes[1] > 0 && bytes[1] < 32 && (bytes[2] === 0x12 || bytes[2] === 0x1a) },
  { words: 'weights in MessagePack (Flax)', is: (bytes) => bytes[0] > 0x80 && bytes[0] < 0x90 && bytes[1] > 0xa0 && bytes[1] < 0xc0 },
  { words: 'a HEIC image', is: (bytes) => /^ftyphe[iv]/.test(latin1(bytes, 4, 12)) },
  { words: 'a JPEG 2000 image', is: starts('\0\0\0\x0cjP  ') },
  { words: 'a JPEG XL image', is: (bytes) => starts('\xff\x0a')(bytes) || latin1(bytes, 4, 8) === 'JXL ' },
  { words: 'a gzip archive', is: starts('\x1f\x8b') },
  { words: 'a PDF', is: starts('%PDF') },
  { words: 'an HTML page, such as a download that failed leaves', is: textual(/^\s*<(?:!doctype html|html|head)/i) },
]

/** Words for what begins so, `undefined` where nothing is recognised. @param bytes the first {@link LOOK} of a file, or all of a shorter one */
export function kindOfBytes(given: Uint8Array): string | undefined {
  const bytes = Buffer.from(given.buffer, given.byteOffset, Math.min(given.byteLength, LOOK))
  if (bytes.length === 0) return 'an empty file'
  const known = SIGNATURES.find(({ is }) => is(bytes))
  if (known) return known.words
  const image = imageFormat(bytes)
  if (image) return `${/^[AS]V/.test(image) ? 'an' : 'a'} ${image} image`
  return isText(bytes) ? `${TEXT} ${JSON.stringify(bytes.toString('utf8').trim().slice(0, 40))}` : undefined
}

/** {@link kindOfBytes} of a file; also undefined where it cannot be read. */
export async function kindOfFile(path: string): Promise<string | undefined> {
  const bytes = await firstBytes(path).catch(() => undefined)
  return bytes && kindOfBytes(bytes)
}

export const isPickle = (kind: string | undefined): boolean => kind === PICKLE

export const isTextual = (kind: string): boolean => kind.startsWith(TEXT)

async function firstBytes(path: string): Promise<Uint8Array> {
  const handle = await FileHandle.open(path, 'r')
  try {
    if (!(await handle.stat()).isFile()) throw new Error('no file')
    const bytes = new Uint8Array(LOOK)
    let done = 0
    for (let read = 1; read > 0 && done < LOOK; done += read) read = (await handle.read(bytes, done, LOOK - done, done)).bytesRead
    return bytes.subarray(0, done)
  } finally {
    await handle.close()
  }
}

/** Printable, as far as eight bytes or more tell. */
function isText(bytes: Buffer): boolean {
  return (
    bytes.length >= 8 &&
    bytes.subarray(0, 64).every((byte) => byte >= 0x80 || (byte >= 0x20 && byte < 0x7f) || (byte >= 0x09 && byte <= 0x0d))
  )
}
