/**
 * What is wrong with a file that the decoder refused, told from its own bytes: the decoder's words are shared by all images that it
 * reads at the same time, so that they are sometimes "Unknown error", sometimes those of another image.
 */

interface Format {
  readonly name: string
  is(bytes: Buffer): boolean
  /** whether the file has its end, where the format says how it ends */
  ends?(bytes: Buffer): boolean
}

const text = (bytes: Buffer, from: number, to: number): string => bytes.toString('latin1', from, to)
/** Files are padded, or other things follow them, more often than one would think. */
const TAIL = 1024

const FORMATS: readonly Format[] = [
  {
    name: 'JPEG',
    is: (bytes) => text(bytes, 0, 2) === '\xff\xd8',
    ends: (bytes) => bytes.subarray(-TAIL).includes('\xff\xd9', 0, 'latin1'),
  },
  { name: 'PNG', is: (bytes) => text(bytes, 0, 4) === '\x89PNG', ends: (bytes) => bytes.subarray(-TAIL).includes('IEND') },
  {
    name: 'WebP',
    is: (bytes) => text(bytes, 0, 4) === 'RIFF' && text(bytes, 8, 12) === 'WEBP',
    ends: (bytes) => bytes.length >= 8 + bytes.readUInt32LE(4),
  },
  { name: 'GIF', is: (bytes) => text(bytes, 0, 4) === 'GIF8', ends: (bytes) => bytes.at(-1) === 0x3b },
  { name: 'TIFF', is: (bytes) => ['II*\0', 'MM\0*'].includes(text(bytes, 0, 4)) },
  { name: 'AVIF', is: (bytes) => text(bytes, 4, 8) === 'ftyp' },
  { name: 'SVG', is: (bytes) => text(bytes, 0, 1000).includes('<svg') },
]

/** @param said the decoder's own words, of which the first line is told where nothing better is known */
export function whatIsWrong(given: Uint8Array, said: string): string {
  const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength)
  if (bytes.length === 0) return 'an empty file'
  const format = FORMATS.find(({ is }) => is(bytes))
  const [line] = said.split('\n')
  const words = /unknown error|unsupported image format/i.test(line) ? '' : ` (${line.replace(/:\s*$/, '')})`
  if (format === undefined) return `a file in no image format that is read here (${FORMATS.map(({ name }) => name).join(', ')})${words}`
  const named = `${/^[AS]V/.test(format.name) ? 'an' : 'a'} ${format.name} file`
  if (format.ends?.(bytes) === false) return `${named} that is cut short (it ends after ${bytes.length} bytes)`
  return `${named} that cannot be decoded${words}`
}
