/** From preprocessor_config.json and the size of an image to numbers. */

import { cropOffset, randomResizedCrop } from '../../lib/formats/crop.js'
import { ImagePreprocessor } from '../../lib/formats/preprocessor.js'
import fc from '../fast-check.js'

const clip = ImagePreprocessor.clip(224)
const file = (more: object) => ImagePreprocessor.fromJson({ image_processor_type: 'CLIPImageProcessor', ...more })

describe('CLIP’s evaluation transform', () => {
  test.each([
    [640, 480, [298, 224], [37, 0]], // 298.67 is cut
    [480, 640, [224, 298], [0, 37]],
    [224, 224, [224, 224], [0, 0]],
    [225, 224, [225, 224], [0, 0]],
    [1, 1000, [224, 224000], [0, 111888]],
  ])('%i x %i', (width, height, resize, [left, top]) => {
    expect(clip.plan(width, height)).toMatchObject({ resize, crop: [left, top, 224, 224], resample: 'bicubic', rescale: 1 / 255 })
  })
  test('mean and deviation are CLIP’s', () => {
    const { mean, std } = clip.plan(9, 9)
    expect([mean, std]).toEqual([
      [0.48145466, 0.4578275, 0.40821073],
      [0.26862954, 0.26130258, 0.27577711],
    ])
  })
})

describe('the forms of the file', () => {
  test.each<[string, object, object]>([
    ['a legacy size', { size: 30, crop_size: 20 }, { resize: [60, 30], crop: [20, 5, 20, 20] }],
    ['shortest edge', { size: { shortest_edge: 30 }, crop_size: { height: 10, width: 20 } }, { resize: [60, 30], crop: [20, 10, 20, 10] }],
    ['height and width', { size: { height: 7, width: 9 }, do_center_crop: false }, { resize: [9, 7] }],
    ['no resize', { do_resize: false, crop_size: 8 }, { resize: [100, 50], crop: [46, 21, 8, 8] }],
    ['no normalisation', { do_normalize: false }, { mean: [0, 0, 0], std: [1, 1, 1] }],
    ['no rescale', { do_rescale: false }, { rescale: 1 }],
    ['null is absent', { size: null, resample: null }, { resize: [448, 224], resample: 'bicubic' }],
  ])('%s', (_, more, expected) => expect(file(more).plan(100, 50)).toMatchObject(expected))

  test.each(['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'].map((name, number) => [number, name]))(
    'resample %i is %s',
    (number, name) => {
      expect(file({ resample: number }).plan(9, 9).resample).toBe(name)
    },
  )

  test('ViT’s: a square without aspect, bilinear, one half', () => {
    const vit = ImagePreprocessor.fromJson({ feature_extractor_type: 'ViTFeatureExtractor', size: 224 })
    expect(vit.plan(640, 480)).toEqual({
      resize: [224, 224],
      resample: 'bilinear',
      rescale: 1 / 255,
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
    })
  })

  test('open_clip’s: torchvision’s crop', () => {
    const plan = ImagePreprocessor.fromOpenClip({ interpolation: 'bicubic', resize_mode: 'shortest', mean: [0.1, 0.2, 0.3] }, 56).plan(
      173,
      96,
    )
    expect(plan).toMatchObject({ resize: [100, 56], crop: [22, 0, 56, 56], mean: [0.1, 0.2, 0.3] })
    expect(ImagePreprocessor.fromOpenClip({ resize_mode: 'squash' }, 56).plan(173, 96).resize).toEqual([56, 56])
    expect(() => ImagePreprocessor.fromOpenClip({ resize_mode: 'longest' }, 56)).toThrow(expect.objectContaining({ code: 'E_UNSUPPORTED' }))
  })

  test.each<[string, object, string]>([
    ['padding', { do_pad: true }, 'E_UNSUPPORTED'],
    ['longest edge', { size: { shortest_edge: 3, longest_edge: 5 } }, 'E_UNSUPPORTED'],
    ['resample 6', { resample: 6 }, 'E_UNSUPPORTED'],
    ['a size of 0', { size: 0 }, 'E_CONFIG'],
    ['a fraction', { crop_size: 1.5 }, 'E_CONFIG'],
    ['no deviation', { image_std: [1, 0, 1] }, 'E_CONFIG'],
    ['two means', { image_mean: [1, 2] }, 'E_CONFIG'],
    ['a flag as text', { do_resize: 'yes' }, 'E_CONFIG'],
  ])('%s is refused', (_, more, code) => expect(() => file(more)).toThrow(expect.objectContaining({ code })))
})

describe('another size, and back to the file', () => {
  const dino = file({ size: { shortest_edge: 256 }, crop_size: 224, image_mean: [0.1, 0.2, 0.3], image_std: [0.4, 0.5, 0.6], resample: 1 })
  test('the share of the crop stays', () => {
    expect(dino.withSize(112).plan(256, 512)).toEqual({ ...dino.plan(256, 512), resize: [128, 256], crop: [8, 72, 112, 112] })
    expect(clip.withSize(64).plan(640, 480)).toEqual(ImagePreprocessor.clip(64).plan(640, 480))
    expect(
      file({ size: { height: 7, width: 9 }, do_center_crop: false })
        .withSize(5)
        .plan(100, 50).resize,
    ).toEqual([5, 5])
  })
  test.each<[string, ImagePreprocessor]>([
    ['CLIP', clip],
    ['DINOv2', dino],
    ['no crop', file({ size: { height: 7, width: 9 }, do_center_crop: false })],
    ['no resize', file({ do_resize: false, crop_size: 8 })],
    ['no arithmetic', file({ do_normalize: false, do_rescale: false })],
  ])('%s reads back as it was written', (_, preprocessor) => {
    const again = ImagePreprocessor.fromJson(JSON.parse(JSON.stringify(preprocessor.toJson())))
    expect(again.plan(100, 50)).toEqual(preprocessor.plan(100, 50))
  })
})

describe('centre crops', () => {
  test.each([
    [83, 56, 13, 14],
    [81, 56, 12, 12],
    [84, 56, 14, 14],
    [56, 56, 0, 0],
    [59, 56, 1, 2],
    [9, 12, -2, -1],
    [7, 12, -3, -2],
    [8, 12, -2, -2],
  ])('%i to %i: Hugging Face %i, OpenAI %i', (size, crop, hf, openai) => {
    expect([cropOffset(size, crop, 'hf'), cropOffset(size, crop, 'openai')].map((x) => x + 0)).toEqual([hf, openai])
  })
  test('the rule is an option', () => {
    expect(ImagePreprocessor.clip(56, { crop: 'openai' }).plan(84, 57).crop).toEqual([13, 0, 56, 56])
    expect(ImagePreprocessor.clip(56, { crop: 'openai' }).plan(83, 56).crop).toEqual([14, 0, 56, 56])
  })
})

describe('RandomResizedCrop', () => {
  const draws = (...values: number[]) => {
    let next = 0
    return () => values[next++ % values.length]
  }
  const numbers = fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 8, maxLength: 64 })

  test('is torchvision’s formula', () => {
    // Area .95 · 40000, aspect 1: sides of sqrt(38000); six places a side.
    expect(randomResizedCrop(200, 200, draws(0.5, 0.5, 0.5, 0.5))).toEqual([3, 3, 195, 195])
    // Aspect 3/4 is too high at first (123 > 100); then aspect (4/3)^(1/2): 115 x 99, top of 2 places, left of 6.
    expect(randomResizedCrop(120, 100, draws(0.5, 0, 0.5, 0.75, 0.6, 0.9))).toEqual([5, 1, 115, 99])
    expect(randomResizedCrop(200, 200, draws(0, 0.5, 0.999, 0))).toEqual([0, 10, 190, 190])
  })
  test('lies inside the image and keeps area and ratio, or is the central fallback', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 300 }),
        numbers,
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (width, height, list, least) => {
          const [left, top, w, h] = randomResizedCrop(width, height, draws(...list), { scale: [least, 1] })
          expect(w >= 1 && h >= 1 && left >= 0 && top >= 0 && left + w <= width && top + h <= height).toBe(true)
        },
      ),
    )
  })
  test('the fallback is the largest central crop of a legal ratio', () => {
    expect(randomResizedCrop(400, 30, draws(0.5))).toEqual([180, 0, 40, 30])
    expect(randomResizedCrop(30, 400, draws(0.5))).toEqual([0, 180, 30, 40])
    expect(randomResizedCrop(3, 1000, draws(0.5))).toEqual([0, 498, 3, 4])
  })
  test('the training plan resizes the crop to the size of evaluation, and flips as often as asked', () => {
    const plan = clip.trainPlan(200, 200, draws(0.5), { flip: 0.6 })
    expect(plan).toMatchObject({ box: [3, 3, 195, 195], resize: [224, 224], flip: true })
    expect(plan.crop).toBeUndefined()
    expect(clip.trainPlan(200, 200, draws(0.5), { flip: 0.4 }).flip).toBeUndefined()
    expect(() => file({ do_resize: false, do_center_crop: false }).trainPlan(9, 9, draws(0.5))).toThrow(
      expect.objectContaining({ code: 'E_CONFIG' }),
    )
  })
})
