/** Files of many kinds to RGB as Pillow's convert('RGB') makes it, bit for bit, or a refusal that says why. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeImage } from '../../lib/data/decode.js'
import { ImageFolder } from '../../lib/data/image-folder.js'
import { imageFolder } from '../fixture-images.js'
import { temporaryFolder } from '../temporary-folder.js'

interface Kind {
  readonly file: string
  readonly size: readonly [number, number]
  readonly rgb?: string
}

const folder = temporaryFolder()
const kinds: Record<string, Kind> = JSON.parse(readFileSync(join(imageFolder, 'kinds.json'), 'utf8'))
const bytesOf = (text = '') => Buffer.from(text, 'base64')
const open = (bytes: Uint8Array, name = 'x') => decodeImage({ bytes, name })

/** What Pillow refuses or wraps round: here refused, with these words. */
const REFUSED: Record<string, RegExp> = {
  'tiff of fractions': /a TIFF file that cannot be decoded \(colours that are fractions\)/,
  'tiff with signs': /a TIFF file that cannot be decoded \(numbers with a sign\)/,
}

test.each(Object.keys(kinds).filter((name) => !(name in REFUSED)))('%s', async (name) => {
  const { file, size, rgb } = kinds[name]
  const { data, width, height } = await open(bytesOf(file))
  expect([width, height]).toEqual(size)
  expect(Buffer.from(data).toString('hex')).toBe(bytesOf(rgb).toString('hex'))
})

test.each(Object.entries(REFUSED))('%s is refused', async (name, words) => {
  await expect(open(bytesOf(kinds[name].file))).rejects.toMatchObject({ code: 'E_IMAGE', message: expect.stringMatching(words) })
})

test.each(Object.keys(kinds).filter((name) => /^(bmp|p.m|plain)/.test(name)))('%s cut anywhere is refused, not guessed', async (name) => {
  const bytes = bytesOf(kinds[name].file)
  const last = name.startsWith('plain') ? bytes.length - 3 : bytes.length - 1 // a plain file ends in white space, perhaps inside a number
  for (let length = 1; length < last; length += 3) await expect(open(bytes.subarray(0, length))).rejects.toMatchObject({ code: 'E_IMAGE' })
})

test.each<[string, Buffer, RegExp]>([
  ['run lengths', patched('bmp 8', 30, 1), /a BMP file that cannot be decoded \(compression 1, which is not read\)/],
  ['a wrong depth', patched('bmp 24', 28, 7), /\(7 bits a pixel\)/],
  ['a bomb', patched('bmp 24', 18, 0x7fffffff), /\(2147483647 x 5 pixels, more than 178956970\)/],
  ['a colour that is not there', patched('bmp 8', 46, 2), /\(a colour 2 that its palette does not have\)/],
  ['a greatest value of 0', Buffer.from('P5 1 1 0\n\0'), /a Netpbm file that cannot be decoded \(a greatest value of 0\)/],
  ['no side', Buffer.from('P6 0 3 255\n'), /\(0 x 3 pixels\)/],
  ['letters', Buffer.from('P2 1 1 255\nx'), /\(a number is expected where there is none\)/],
])('%s is told', async (_, bytes, words) => {
  await expect(open(bytes)).rejects.toMatchObject({ code: 'E_IMAGE', message: expect.stringMatching(words) })
})

/** A file with another number at a place of its header. */
function patched(name: string, at: number, value: number): Buffer {
  const bytes = bytesOf(kinds[name].file)
  if (at === 28) bytes.writeUInt16LE(value, at)
  else bytes.writeUInt32LE(value, at)
  return bytes
}

test('a folder lists what is read, and photographs that are refused by name rather than left out', async () => {
  mkdirSync(join(folder, 'a'))
  const names = ['1.bmp', '2.ppm', '3.pbm', '4.JFIF', '5.heic', '6.txt', '7.json', '8.tif']
  for (const name of names) writeFileSync(join(folder, 'a', name), 'x')
  const { samples } = await ImageFolder.open(folder)
  expect(samples.map(({ id }) => id)).toEqual(['a/1.bmp', 'a/2.ppm', 'a/3.pbm', 'a/4.JFIF', 'a/5.heic', 'a/8.tif'])
  await expect(open(Buffer.from('\0\0\0\x18ftypheic0000000000'), 'p.heic')).rejects.toThrow('p.heic: expected an image, got a HEIC image')
})
