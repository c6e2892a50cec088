import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ReferenceSet } from '../../lib/continual/reference-set.js'
import { Clip } from '../../lib/models/clip.js'
import { l2Normalize } from '../../lib/ops.js'
import { noGradient, step, Tensor } from '../../lib/tensor.js'
import { encodeTexts } from '../../lib/train/features.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
let clip: Clip
let images: string

beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
  images = await tinyImages(join(folder, 'images'), ['x', 'y', 'z'], 3)
})
afterAll(() => clip.dispose())

const open = (more = {}) => ReferenceSet.open(clip, { images, templates: ['an {}.'], ...more })
const draw = { seed: 3, task: 0 }

test('a batch carries what the model said of its images and of all texts', async () => {
  const set = await open()
  for (const at of [0, 1, 2, 7]) {
    const batch = await set.batch(draw, at, 4)
    const own = await step(() => noGradient(() => l2Normalize(clip.encodeImage(Tensor.from(batch.pixels, batch.shape)))))
    expect(batch.image).toEqual(await own.floats())
    expect(await set.texts.floats()).toEqual(await encodeTexts(clip, ['an x.', 'an y.', 'an z.']))
  }
  set.dispose()
})

test('batches depend on seed, task and step alone, and an epoch takes each image once', async () => {
  const pixels = async (set: ReferenceSet, which: typeof draw, at: number) => Buffer.from((await set.batch(which, at, 3)).pixels.buffer)
  const set = await open()
  const inOrder: Buffer[] = []
  for (let at = 0; at < 6; at++) inOrder.push(await pixels(set, draw, at))
  const again = await open()
  for (const at of [4, 1, 5, 0]) expect((await pixels(again, draw, at)).equals(inOrder[at])).toBe(true)
  expect((await pixels(again, { seed: 4, task: 0 }, 0)).equals(inOrder[0])).toBe(false)
  expect((await pixels(again, { seed: 3, task: 1 }, 0)).equals(inOrder[0])).toBe(false)
  const each = inOrder[0].length / 3
  const rows = (from: number) =>
    inOrder.slice(from, from + 3).flatMap((of) => [0, 1, 2].map((i) => of.subarray(i * each, (i + 1) * each).toString('base64')))
  expect(new Set(rows(0)).size).toBe(9)
  expect(rows(3).sort()).toEqual(rows(0).sort())
  expect(rows(3)).not.toEqual(rows(0))
  set.dispose()
  again.dispose()
})

test('texts are the lines of a file, or captions, or the classes in templates', async () => {
  const file = join(folder, 'texts.txt')
  writeFileSync(file, 'a cat.\n\n a dog. \na cat.\n')
  const table = join(folder, 'table.jsonl')
  const row = (name: string, captions: string[]) => JSON.stringify({ image: join(images, name), captions })
  writeFileSync(table, [row('x/0.png', ['one.', 'two.']), row('y/0.png', ['one.'])].join('\n'))
  const texts = async (options: object, wanted: string[]) => {
    const set = await open(options)
    expect(await set.texts.floats()).toEqual(await encodeTexts(clip, wanted))
    set.dispose()
  }
  await texts({ texts: file }, ['a cat.', 'a dog.'])
  await texts({ images: table, templates: undefined }, ['one.', 'two.'])
  await texts({ templates: ['{}', 'my {}'] }, ['x', 'my x', 'y', 'my y', 'z', 'my z'])
  await expect(open({ texts: join(folder, 'none.txt') })).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
  writeFileSync(file, '\n')
  await expect(open({ texts: file })).rejects.toMatchObject({ code: 'E_DATA', message: expect.stringContaining('texts') })
})

test('an image that cannot be read is left out, and too few images are told of', async () => {
  const broken = await tinyImages(join(folder, 'broken'), ['x', 'y'], 2)
  writeFileSync(join(broken, 'x', '0.png'), 'no image')
  const set = await open({ images: broken })
  expect(set.data.length).toBe(3)
  const { pixels, shape, image } = await set.batch(draw, 0, 3)
  const own = await step(() => noGradient(() => l2Normalize(clip.encodeImage(Tensor.from(pixels, shape)))))
  expect(image).toEqual(await own.floats())
  await expect(set.batch(draw, 0, 4)).rejects.toMatchObject({ code: 'E_OPTION', message: expect.stringContaining('reference') })
  set.dispose()
})
