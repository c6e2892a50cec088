/** Files to RGB, bit for bit as Pillow's convert('RGB'). */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { decodeImage } from '../../lib/data/decode.js'
import { imageFolder, pillowResults } from '../fixture-images.js'
import { temporaryFolder } from '../temporary-folder.js'

const expected = pillowResults()
const folder = temporaryFolder()

test.each([
  ['grey', 'grey.png', 'grey'],
  ['palette', 'palette.png', 'a palette'],
  ['alpha', 'alpha.png', 'alpha, dropped without compositing'],
  ['cmyk', 'cmyk.jpg', 'CMYK, inverted as Adobe writes it'],
  ['grey16', 'grey16.png', '16-bit grey, cut at 255'],
  ['rgb16', 'rgb16.png', '16-bit colour, the high byte'],
  ['rotated', 'rotated.jpg', 'JPEG, not turned'],
])('%s: %s (%s)', async (name, file) => {
  const { data, width, height } = await decodeImage(join(imageFolder, file))
  const want = expected.get(`${name}.rgb`)!
  expect([width, height]).toEqual([want.width, want.height])
  expect(Buffer.compare(data, want.data)).toBe(0)
})

test('16-bit grey of which nothing would be left is refused, and says what to do', async () => {
  const decode = async (least: number) => {
    const values = Uint16Array.from({ length: 64 }, (_, i) => least + i * 900)
    const image = sharp(values, { raw: { width: 8, height: 8, channels: 1 } }).toColourspace('grey16')
    return (await decodeImage({ bytes: await image.png().toBuffer(), name: 'camera' })).data
  }
  const what = 'every pixel above 255, which is cut there (as Pillow does) to plain white: scale it to 8 bits first'
  await expect(decode(256)).rejects.toMatchObject({ code: 'E_IMAGE', message: expect.stringContaining(what) })
  expect(new Set(await decode(255))).toEqual(new Set([255]))
  expect((await decode(7))[0]).toBe(7)
})

test('EXIF rotation when asked for', async () => {
  const { data, width, height } = await decodeImage(join(imageFolder, 'rotated.jpg'), { exif: true })
  const want = expected.get('rotated.upright')!
  expect([width, height]).toEqual([want.width, want.height])
  expect(Buffer.compare(data, want.data)).toBe(0)
})

test('transparent pixels keep their colour', async () => {
  const pixels = Uint8Array.of(200, 100, 50, 0, 10, 20, 30, 128)
  const png = await sharp(pixels, { raw: { width: 2, height: 1, channels: 4 } })
    .png()
    .toBuffer()
  expect([...(await decodeImage({ bytes: png, name: 'clear' })).data]).toEqual([200, 100, 50, 10, 20, 30])
})

test('a colour profile is not applied', async () => {
  const plain = await sharp(Uint8Array.of(200, 30, 90), { raw: { width: 1, height: 1, channels: 3 } })
    .withIccProfile('p3')
    .png()
    .toBuffer()
  const stored = [...(await sharp(plain, { ignoreIcc: true }).raw().toBuffer())]
  const converted = [...(await sharp(plain).raw().toBuffer())]
  expect(converted).not.toEqual(stored)
  expect([...(await decodeImage({ bytes: plain, name: 'p3' })).data]).toEqual(stored)
})

test.each(['webp', 'gif', 'tiff', 'avif'] as const)('%s is read', async (format) => {
  const bytes = await sharp(join(imageFolder, 'tiny.png')).toFormat(format).toBuffer()
  const { width, height, data } = await decodeImage({ bytes, name: format })
  expect([width, height, data.length]).toEqual([9, 7, 189])
})

describe('broken files name themselves', () => {
  const photo = readFileSync(join(imageFolder, 'rotated.jpg'))
  const drawing = readFileSync(join(imageFolder, 'wide.png'))
  const spoilt = Uint8Array.from(drawing)
  spoilt.fill(0, 40, 400)
  test.each<[string, Uint8Array, string | RegExp]>([
    ['cut.jpg', photo.subarray(0, photo.length / 2), 'a JPEG file that is cut short (it ends after 9445 bytes)'],
    ['cut.png', drawing.subarray(0, 9000), 'a PNG file that is cut short (it ends after 9000 bytes)'],
    [
      'text.jpg',
      Buffer.from('not an image'),
      'a file in no image format that is read here (JPEG, PNG, WebP, GIF, TIFF, AVIF, BMP, Netpbm, SVG)',
    ],
    ['empty.png', new Uint8Array(0), 'an empty file'],
    ['header.png', drawing.subarray(0, 30), 'a PNG file that is cut short (it ends after 30 bytes)'],
    ['head.jpg', photo.subarray(0, 4), 'a JPEG file that is cut short (it ends after 4 bytes)'],
    ['spoilt.png', spoilt, /spoilt\.png: expected an image, got a PNG file that cannot be decoded/],
  ])('%s', async (name, bytes, got) => {
    const path = join(folder, name)
    writeFileSync(path, bytes)
    await expect(decodeImage(path)).rejects.toMatchObject({
      code: 'E_IMAGE',
      message: typeof got === 'string' ? `${path}: expected an image, got ${got}` : expect.stringMatching(got),
      details: { image: path },
    })
    await expect(decodeImage({ bytes, name })).rejects.toMatchObject({ code: 'E_IMAGE', details: { image: name } })
  })
  test('a file that is not there', async () => {
    await expect(decodeImage(join(folder, 'none.png'))).rejects.toMatchObject({
      code: 'E_IMAGE',
      message: expect.stringContaining('none.png'),
    })
  })
})
