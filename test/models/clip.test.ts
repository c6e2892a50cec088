import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { openClipFolder } from '../../lib/formats/clip-files.js'
import { layoutNamed } from '../../lib/formats/layouts.js'
import { FullFineTuning } from '../../lib/methods/full-fine-tuning.js'
import { Lora } from '../../lib/methods/lora.js'
import { Clip } from '../../lib/models/clip.js'
import { noGradient, scope, Tensor } from '../../lib/tensor.js'
import { classify } from '../../lib/train/classify.js'
import { Case, fixture, relativeError } from '../fixture.js'
import { writeClip } from '../formats/write-clip.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'

const CASES = [
  ['even', 'quick-gelu'],
  ['odd', 'quick-gelu'],
  ['odd', 'gelu'],
] as const

describe('CLIP', () => {
  test.each(CASES)('features of %s %s agree with transformers', async (shape, act) => {
    const folder = fixture(shape, `clip-${act}`)
    const want = await Case.open(folder)
    const clip = await Clip.load(folder, { dtype: 'f32' })
    const [image, text, padded] = scope(() => [
      clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels'))),
      clip.encodeText(want.ids()),
      clip.encodeText(want.ids(), undefined, { dedupe: false, cut: false }),
    ])
    expect(relativeError([await image.floats(), want.get('image_features')])).toBeLessThan(1e-5)
    expect(relativeError([await text.floats(), want.get('text_features')])).toBeLessThan(1e-5)
    expect(relativeError([await padded.floats(), want.get('text_features')])).toBeLessThan(1e-5)
    clip.dispose()
  })

  test('packed copies that are kept change no bit, at rows enough that others pack on the way', async () => {
    const folder = fixture('even', 'clip-quick-gelu')
    const features = async (keepPacked: boolean) => {
      const clip = await Clip.load(folder, { keepPacked })
      const { imageSize, patchSize } = clip.config.vision
      const batch = Math.ceil(600 / ((imageSize / patchSize) ** 2 + 1))
      const pixels = Float32Array.from({ length: batch * 3 * imageSize ** 2 }, (_, i) => Math.sin(i))
      const encode = () => noGradient(() => scope(() => clip.encodeImage(Tensor.from(pixels, [batch, 3, imageSize, imageSize]))))
      const first = await encode().floats()
      expect(await encode().floats()).toEqual(first)
      clip.dispose()
      return first
    }
    expect(await features(true)).toEqual(await features(false))
  })
})

const own = temporaryFolder()

test('a model that was disposed says so, whatever it is asked for', async () => {
  const clip = await Clip.load(tinyClip(own), { dtype: 'f32' })
  const { imageSize } = clip.config.vision
  clip.dispose()
  const gone = { code: 'E_DISPOSED', message: `${clip.folder}: expected a model in use, got one that was disposed (dispose())` }
  expect(() => clip.logitScale).toThrow(expect.objectContaining(gone))
  expect(() => clip.encodeText([[598, 5, 599]])).toThrow(expect.objectContaining(gone))
  expect(() => scope(() => void clip.encodeImage(Tensor.zeros([1, 3, imageSize, imageSize])))).toThrow(expect.objectContaining(gone))
  const image = join(__dirname, '../fixtures/images/tiny.png')
  await expect(classify(clip, [image], ['a', 'b'])).rejects.toMatchObject(gone)
  await expect(FullFineTuning.create(clip)).rejects.toMatchObject(gone)
  await expect(Lora.create(clip, { init: 'pissa' })).rejects.toMatchObject(gone)
  clip.dispose() // once more does nothing
  const again = await clip.reload()
  expect(await again.logitScale.item()).toBeGreaterThan(0)
  again.dispose()
})

describe('saving', () => {
  const folder = temporaryFolder()

  test('another image size: positions are interpolated, and the saved model is of that size', async () => {
    const clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32', imageSize: 56 })
    await clip.save(join(folder, 'larger'))
    const again = await Clip.load(join(folder, 'larger'), { dtype: 'f32' })
    expect(again.config.vision.imageSize).toBe(56)
    expect(again.preprocessor.outputSize).toEqual([56, 56])
    const pixels = Float32Array.from({ length: 3 * 56 * 56 }, (_, i) => Math.sin(i / 9))
    const [a, b] = scope(() => [clip, again].map((m) => m.encodeImage(Tensor.from(pixels, [1, 3, 56, 56]))))
    expect([...(await b.floats())]).toEqual([...(await a.floats())])
    clip.dispose()
    again.dispose()
  })

  test.each([
    ['bf16', 2e-2],
    ['f16', 2e-3],
  ] as const)('in %s', async (dtype, bound) => {
    const clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
    await clip.save(join(folder, dtype), { dtype })
    const again = await Clip.load(join(folder, dtype), { dtype: 'f32' })
    const [a, b] = scope(() => [clip, again].map((m) => m.encodeText([[598, 5, 9, 599]])))
    expect(relativeError([await b.floats(), await a.floats()])).toBeLessThan(bound)
    await expect(clip.save(clip.folder)).rejects.toMatchObject({ code: 'E_SAME_FOLDER' })
    clip.dispose()
    again.dispose()
  })

  test('what a model has of a tensor is what trained, else what changed, else the file', async () => {
    const clip = await Clip.load(tinyClip(join(folder, 'trained')), { dtype: 'bf16', imageSize: 56 })
    const { weights } = clip
    const [resized, frozen] = ['vision_model.embeddings.position_embedding.weight', 'vision_model.encoder.layers.0.mlp.fc1.weight']
    expect(weights.differs(frozen)).toBe(false)
    expect(await weights.exact(frozen)).toEqual(await weights.original(frozen)) // and not what bf16 makes of it
    expect(await weights.exact(resized)).toBe(weights.changed.get(resized))
    const [positions] = await weights.unfreeze([resized])
    const trained = new Float32Array(positions.count).fill(0.1)
    positions.write(trained)
    expect(await weights.exact(resized)).toEqual(trained)
    clip.dispose()
  })

  test('names of open_clip: read, and written back in the same names', async () => {
    const source = await openClipFolder(tinyClip(join(folder, 'clip')))
    await writeClip(source, join(folder, 'theirs'), layoutNamed('open-clip'))
    const clips = [await Clip.load(join(folder, 'clip'), { dtype: 'f32' }), await Clip.load(join(folder, 'theirs'), { dtype: 'f32' })]
    await clips[1].save(join(folder, 'back'))
    clips.push(await Clip.load(join(folder, 'back'), { dtype: 'f32' }))
    const features = scope(() => clips.map((m) => m.encodeText([[598, 5, 9, 599]])))
    const [a, b, c] = await Promise.all(features.map((t) => t.floats()))
    expect([...b]).toEqual([...a])
    expect([...c]).toEqual([...a])
    expect(readdirSync(join(folder, 'back'))).toContain('open_clip_model.safetensors')
    for (const clip of clips) clip.dispose()
  })
})
