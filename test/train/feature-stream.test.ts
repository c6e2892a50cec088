import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { Dataset } from '../../lib/data/dataset.js'
import { imagePaths } from '../../lib/data/image-paths.js'
import { CambiumError } from '../../lib/errors.js'
import { Clip } from '../../lib/models/clip.js'
import { encodeStream, type StreamItem } from '../../lib/train/feature-stream.js'
import { encodeImages, encodeTexts } from '../../lib/train/features.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
let clip: Clip
let images: string[]

beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
  images = []
  for await (const path of imagePaths([await tinyImages(join(folder, 'photos'), ['red', 'green'], 4)])) images.push(path)
})
afterAll(() => clip.dispose())

async function all<T>(source: AsyncIterable<T[]>): Promise<T[]> {
  const list: T[] = []
  for await (const part of source) list.push(...part)
  return list
}

test('the features of encodeImages and encodeTexts, whatever the batch', async () => {
  const { values } = await encodeImages(clip, new Dataset(images.map((image) => ({ id: image, image }))))
  const texts = ['a cat', 'two dogs', 'x']
  const expected = await encodeTexts(clip, texts)
  const width = clip.config.projectionDim
  for (const batch of [1, 3, 64]) {
    const rows = await all(encodeStream(clip, [...images.map((image) => ({ image })), ...texts.map((text) => ({ text }))], { batch }))
    expect(rows.map(({ item }) => Object.values(item)[0])).toEqual([...images, ...texts])
    const features = rows.map(({ feature }) => Array.from(feature!))
    expect(features.flat()).toEqual([...values, ...expected])
    expect(features[0]).toHaveLength(width)
  }
})

test('kinds alternate, errors stay in their places', async () => {
  writeFileSync(join(folder, 'torn.png'), 'no image')
  const wrong = new CambiumError('E_DATA', 'known before')
  const items: StreamItem[] = [
    { error: wrong },
    { text: 'a' },
    { image: join(folder, 'torn.png') },
    { image: images[0] },
    { text: 'b' },
    { error: wrong },
  ]
  const rows = await all(encodeStream(clip, items, { batch: 2 }))
  expect(rows.map(({ item }) => item)).toEqual(items)
  expect(rows.map(({ error, feature }) => error?.code ?? feature!.length)).toEqual(['E_DATA', 48, 'E_IMAGE', 48, 48, 'E_DATA'])
})

test('what is done comes out although the source makes us wait, and no more is read than is needed', async () => {
  let [read, go] = [0, () => {}]
  const waiting = new Promise<void>((resolve) => {
    go = resolve
  })
  async function* source() {
    for (; ; read++) {
      if (read === 4) await waiting
      yield { image: images[read % images.length] }
    }
  }
  const stream = encodeStream(clip, source(), { batch: 2 })
  expect((await stream.next()).value).toHaveLength(2)
  expect((await stream.next()).value).toHaveLength(2)
  go()
  expect((await stream.next()).value).toHaveLength(2)
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(read).toBeLessThanOrEqual(20)
  await stream.return()
})

test('a source that fails, an abort and a wrong batch are thrown', async () => {
  async function* failing() {
    yield { image: images[0] }
    throw new Error('the source broke')
  }
  await expect(all(encodeStream(clip, failing()))).rejects.toThrow('the source broke')
  const controller = new AbortController()
  const stream = encodeStream(
    clip,
    images.map((image) => ({ image })),
    { batch: 1, signal: controller.signal },
  )
  await stream.next()
  controller.abort(new Error('enough'))
  await expect(stream.next()).rejects.toThrow('enough')
  await expect(all(encodeStream(clip, [], { batch: 0 }))).rejects.toMatchObject({ code: 'E_OPTION' })
  expect(await all(encodeStream(clip, []))).toEqual([])
})

test('an image that cannot be resized is told by its name, in its place', async () => {
  const thin = join(folder, 'thin.png')
  await sharp(Buffer.alloc(6000), { raw: { width: 1, height: 2000, channels: 3 } })
    .png()
    .toFile(thin)
  const [first, second] = await all(encodeStream(clip, [{ image: thin }, { image: images[0] }]))
  expect(first.error).toMatchObject({
    code: 'E_IMAGE',
    message: expect.stringMatching(/thin\.png: expected an image that can be resized, got 1 x 2000 pixels \(/),
  })
  expect(second.feature).toBeDefined()
})
