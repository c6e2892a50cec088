/** The native core's pixels against Pillow's, bit for bit, and the plans that lead to them. */
import { join } from 'node:path'
import { decodeImage } from '../../lib/data/decode.js'
import type { RgbImage } from '../../lib/data/rgb-image.js'
import { ImagePreprocessor, type PreprocessPlan } from '../../lib/formats/preprocessor.js'
import { native } from '../../lib/native.js'
import fc from '../fast-check.js'
import { imageFolder, pillowResults } from '../fixture-images.js'

const pillow = pillowResults()
const images = new Map<string, RgbImage>()
beforeAll(async () => {
  for (const name of ['wide', 'tall', 'tiny']) images.set(name, await decodeImage(join(imageFolder, `${name}.png`)))
})
const exact = (data: Uint8Array, name: string) => expect(Buffer.compare(data, pillow.get(name)!.data)).toBe(0)
const bytes = { rescale: 1, mean: [0, 0, 0], std: [1, 1, 1] } satisfies Partial<PreprocessPlan>

/** The plan's result as interleaved bytes. */
async function rgbOf({ data, width, height }: RgbImage, plan: PreprocessPlan): Promise<Uint8Array> {
  const planes = await native.preprocessImage(data, width, height, { ...plan, ...bytes })
  const size = planes.length / 3
  return Uint8Array.from({ length: planes.length }, (_, i) => planes[(i % 3) * size + Math.floor(i / 3)])
}

describe.each(['wide', 'tall', 'tiny'])('%s', (name) => {
  test.each(['bilinear', 'bicubic'])('%s to a short side of 56, by the plan of the configuration', async (resample) => {
    const image = images.get(name)!
    for (const [rule, suffix] of [
      ['hf', 'crop'],
      ['openai', 'crop_openai'],
    ] as const) {
      const preprocessor = ImagePreprocessor.fromJson(
        { size: { shortest_edge: 56 }, crop_size: 56, resample: resample === 'bilinear' ? 2 : 3 },
        { crop: rule },
      )
      const plan = preprocessor.plan(image.width, image.height)
      const whole = pillow.get(`${name}.${resample}`)!
      expect(plan.resize).toEqual([whole.width, whole.height])
      exact(await rgbOf(image, plan), `${name}.${resample}.${suffix}`)
      exact(await rgbOf(image, { ...plan, crop: undefined }), `${name}.${resample}`)
    }
  })
})

describe.each(['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'])('%s', (resample) => {
  test.each([
    [13, 9],
    [31, 120],
    [173, 20],
  ])('%i x %i', async (outWidth, outHeight) => {
    const { data, width, height } = images.get('wide')!
    exact(await native.resizeImage(data, width, height, { outWidth, outHeight, resample }), `filter.${resample}.${outWidth}x${outHeight}`)
  })
  test('from a box of fractions', async () => {
    const { data, width, height } = images.get('wide')!
    exact(
      await native.resizeImage(data, width, height, { box: [10.25, 3.5, 150.75, 80.125], outWidth: 24, outHeight: 17, resample }),
      `box.${resample}`,
    )
  })
})

test('a crop is cut before it is resized: its neighbours do not shine in', async () => {
  const { data, width, height } = images.get('wide')!
  const [left, top, w, h] = [20, 10, 40, 30]
  const cut = Uint8Array.from(
    { length: w * h * 3 },
    (_, i) => data[((top + Math.floor(i / 3 / w)) * width + left + (Math.floor(i / 3) % w)) * 3 + (i % 3)],
  )
  const plan: PreprocessPlan = { box: [left, top, w, h], resize: [9, 7], resample: 'bicubic', ...bytes }
  const alone = await native.resizeImage(cut, w, h, { outWidth: 9, outHeight: 7, resample: 'bicubic' })
  expect(await rgbOf({ data, width, height }, plan)).toEqual(new Uint8Array(alone))
  const flipped = await rgbOf({ data, width, height }, { ...plan, flip: true })
  expect([...flipped.subarray(0, 3)]).toEqual([...alone.subarray(24, 27)])
})

test('normalisation is transformers’: a table of f32((f32(v / 255) - mean) / std)', async () => {
  const data = Uint8Array.from({ length: 256 * 3 }, (_, i) => Math.floor(i / 3))
  const plan = ImagePreprocessor.clip(224).plan(256, 1)
  const planes = await native.preprocessImage(data, 256, 1, { ...plan, resize: [256, 1], crop: undefined })
  for (let c = 0; c < 3; c++) {
    const [mean, std] = [Math.fround(plan.mean[c]), Math.fround(plan.std[c])]
    for (let v = 0; v < 256; v++) {
      expect(planes[c * 256 + v]).toBe(Math.fround(Math.fround(Math.fround(v * (1 / 255)) - mean) / std))
    }
  }
})

test('a crop that reaches outside is zero there, before normalisation', async () => {
  const data = new Uint8Array(2 * 2 * 3).fill(255)
  const plan: PreprocessPlan = {
    resize: [2, 2],
    crop: [-1, -2, 4, 4],
    resample: 'nearest',
    rescale: 1 / 255,
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
  }
  const planes = await native.preprocessImage(data, 2, 2, plan)
  expect([...planes.subarray(0, 16)]).toEqual([-1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 1, -1, -1, 1, 1, -1])
})

test('a constant image stays constant at every size and by every filter', async () => {
  const sides = fc.integer({ min: 1, max: 40 })
  await fc.assert(
    fc.asyncProperty(
      sides,
      sides,
      sides,
      sides,
      fc.constantFrom('nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'),
      fc.nat(255),
      async (width, height, outWidth, outHeight, resample, value) => {
        const out = await native.resizeImage(new Uint8Array(width * height * 3).fill(value), width, height, {
          outWidth,
          outHeight,
          resample,
        })
        expect(out.every((pixel) => pixel === value)).toBe(true)
      },
    ),
  )
})

test.each<[string, Partial<PreprocessPlan>]>([
  ['a box outside the image', { box: [5, 0, 5, 7] }],
  ['a negative box', { box: [-1, 0, 5, 7] }],
  ['an empty box', { box: [0, 0, 0, 7] }],
  ['no size', { resize: [0, 5] }],
  ['an empty crop', { crop: [0, 0, 0, 5] }],
])('%s is an error', async (_, part) => {
  const { data, width, height } = images.get('tiny')!
  const plan: PreprocessPlan = { resize: [5, 5], resample: 'bicubic', ...bytes, ...part }
  await expect((async () => native.preprocessImage(data, width, height, plan))()).rejects.toMatchObject({ code: 'E_SHAPE' })
})
