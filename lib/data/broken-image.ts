/**
 * What is wrong with a file that the decoder refused, told from its own bytes: the decoder's words are shared by all images that it
 * reads at the same time, so that they are sometimes "Unknown error", sometimes those of another image.
 */

import { IMAGE_FORMATS, type ImageFormat, imageFormat, isTextual, kindOfBytes } from '../formats/file-kind.js'

/** Files are padded, or other things follow them, more often than one would think. */
const TAIL = 1024

/** Whether a file has its end, where the format says how it ends. */
const ENDS: { readonly [name in ImageFormat]?: (bytes: Buffer) => boolean } = {
  JPEG: (bytes) => bytes.subarray(-TAIL).includes('\xff\xd9', 0, 'latin1'),
  PNG: (bytes) => bytes.subarray(-TAIL).includes('IEND'),
  WebP: (bytes) => bytes.length >= 8 + bytes.readUInt32LE(4),
  GIF: (bytes) => bytes.at(-1) === 0x3b,
}

/** @param said the decoder's own words, of which the first line is told where nothing better is known */
export function whatIsWrong(given: Uint8Array, said: string): string {
  const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength)
  if (bytes.length === 0) return 'an empty file'
  const format = imageFormat(bytes)
  const [line] = said.split('\n')
  const words = /unknown error|unsupported image format/i.test(line) ? '' : ` (${line.replace(/:\s*$/, '')})`
  if (format === undefined) {
    const kind = kindOfBytes(bytes)
    return kind !== undefined && !isTextual(kind)
      ? kind
      : `a file in no image format that is read here (${Object.keys(IMAGE_FORMATS).join(', ')})${words}`
  }
  const named = `${/^[AS]V/.test(format) ? 'an' : 'a'} ${format} file`
  if (ENDS[format]?.(bytes) === false) return `${named} that is cut short (it ends after ${bytes.length} bytes)`
  return `${named} that cannot be decoded${words}`
}
