/** The loader: the same batches whatever the timing, from any place, and a clean end in every case. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import { type Batch, type BatchOptions, batches } from '../../lib/data/batches.js'
import { Dataset } from '../../lib/data/dataset.js'
import { ImageCache } from '../../lib/data/image-cache.js'
import { philoxRandom, shuffledOrder } from '../../lib/data/random.js'
import { ImagePreprocessor } from '../../lib/formats/preprocessor.js'
import { temporaryFolder } from '../temporary-folder.js'

const root = temporaryFolder()
const preprocessor = ImagePreprocessor.fromJson({ size: 8, crop_size: 8, do_normalize: false, do_rescale: false, resample: 0 })
let whole: Dataset

/** Ten images of 12 x 10, of the colour (20 i, x, y); sample 4 is broken in `dented`. */
beforeAll(async () => {
  for (let i = 0; i < 10; i++) {
    const pixels = Uint8Array.from({ length: 360 }, (_, k) => [20 * i, Math.floor(k / 3) % 12, Math.floor(k / 36)][k % 3])
    writeFileSync(
      join(root, `${i}.png`),
      await sharp(pixels, { raw: { width: 12, height: 10, channels: 3 } })
        .png()
        .toBuffer(),
    )
  }
  const samples = Array.from({ length: 10 }, (_, i) => ({ id: `${i}`, image: join(root, `${i}.png`), label: i % 3 }))
  whole = new Dataset(samples, { classNames: ['a', 'b', 'c'], templates: ['one {}', 'two {}', 'three {}'] })
  writeFileSync(join(root, 'broken.png'), 'no image')
})
const dented = () =>
  new Dataset(
    whole.samples.map((sample, i) => (i === 4 ? { ...sample, image: join(root, 'broken.png') } : sample)),
    whole,
  )

async function all(dataset: Dataset, options: Partial<BatchOptions> = {}): Promise<Batch[]> {
  const list: Batch[] = []
  for await (const batch of batches(dataset, { batchSize: 4, preprocessor, ...options })) list.push(batch)
  return list
}
/** Fifty samples of the same image; `opened` is called whenever one is asked for. */
const watchedSet = (opened: () => void) =>
  new Dataset(
    Array.from({ length: 50 }, (_, i) => ({
      id: `${i}`,
      get image() {
        opened()
        return whole.samples[0].image
      },
    })),
  )
const order = (list: Batch[]) => list.map(({ samples }) => [...samples])

test('in order, the last batch smaller, pixels as planes', async () => {
  const list = await all(whole)
  expect(order(list)).toEqual([
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9],
  ])
  expect(list.map(({ shape }) => shape)).toEqual([
    [4, 3, 8, 8],
    [4, 3, 8, 8],
    [2, 3, 8, 8],
  ])
  expect([...list[2].labels!]).toEqual([2, 0])
  expect(list[2].texts).toBeUndefined()
  const { pixels } = list[2]
  expect(pixels.length).toBe(2 * 3 * 64)
  expect(new Set(pixels.subarray(0, 64))).toEqual(new Set([160]))
  expect(new Set(pixels.subarray(192, 256))).toEqual(new Set([180]))
})

test('dropLast leaves the rest out', async () => {
  expect(order(await all(whole, { dropLast: true, epochs: 2 }))).toEqual([
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [0, 1, 2, 3],
    [4, 5, 6, 7],
  ])
})

describe('shuffled, with random crops and texts', () => {
  const training: Partial<BatchOptions> = { shuffle: true, seed: 5, epochs: 3, augment: { scale: [0.3, 1], flip: 0.5 }, texts: 'random' }

  test('each epoch sees every sample once, in an order of its own', async () => {
    const list = await all(whole, training)
    const epochs = [0, 1, 2].map((epoch) => list.filter((batch) => batch.epoch === epoch).flatMap(({ samples }) => [...samples]))
    for (const epoch of epochs) expect([...epoch].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(new Set(epochs.map((epoch) => epoch.join())).size).toBe(3)
  })

  test('the same seed gives the same bits, however many are decoded at once or ahead', async () => {
    const plain = (list: Batch[]) => list.map(({ pixels, ...rest }) => ({ ...rest, pixels: Buffer.from(pixels.buffer).toString('base64') }))
    const first = plain(await all(whole, { ...training, concurrency: 1, prefetch: 0 }))
    expect(plain(await all(whole, { ...training, concurrency: 8, prefetch: 3 }))).toEqual(first)
    expect(plain(await all(whole, { ...training, cache: new ImageCache(0) }))).toEqual(first)
    expect(order(await all(whole, { ...training, seed: 6 }))).not.toEqual(first.map(({ samples }) => [...samples]))
  })

  test('a sample’s draws do not depend on the size of the batch', async () => {
    const pixelsOf = (list: Batch[]) =>
      new Map(
        list.flatMap((batch) =>
          [...batch.samples].map((sample, slot) => [
            `${batch.epoch} ${sample}`,
            [batch.texts![slot], batch.pixels.slice(slot * 192, (slot + 1) * 192).join()],
          ]),
        ),
      )
    const [small, large] = [await all(whole, { ...training, batchSize: 1 }), await all(whole, { ...training, batchSize: 7 })].map(pixelsOf)
    expect(small).toEqual(large)
    expect(small.get('0 3')).not.toEqual(small.get('1 3'))
  })

  test('it goes on from any batch as if it had never stopped', async () => {
    const list = await all(whole, training)
    for (let i = 0; i < list.length; i++) {
      const rest = await all(whole, { ...training, start: list[i].next })
      expect(rest.map(({ samples, pixels }) => [[...samples], pixels.join()])).toEqual(
        list.slice(i + 1).map(({ samples, pixels }) => [[...samples], pixels.join()]),
      )
    }
  })

  test('texts are templates filled with the class, all of them in time', async () => {
    const list = await all(whole, { ...training, epochs: 20 })
    const texts = list.flatMap(({ texts, samples }) => [...samples].map((sample, slot) => [sample, texts![slot]] as const))
    for (const [sample, text] of texts) expect(['one', 'two', 'three'].map((word) => `${word} ${'abc'[sample % 3]}`)).toContain(text)
    expect(new Set(texts.map(([, text]) => text)).size).toBe(9)
    expect((await all(whole, { texts: 'first' }))[0].texts).toEqual(['one a', 'one b', 'one c', 'one a'])
  })

  test('captions go before templates; a set with neither is an error', async () => {
    const captions = new Dataset(whole.samples.map(({ id, image }) => ({ id, image, captions: [`c${id}`] })))
    expect((await all(captions, { texts: 'random' }))[0].texts).toEqual(['c0', 'c1', 'c2', 'c3'])
    const bare = new Dataset(whole.samples.map(({ id, image }) => ({ id, image })))
    await expect(all(bare, { texts: 'first' })).rejects.toMatchObject({ code: 'E_DATA' })
    expect((await all(bare))[0].labels).toBeUndefined()
  })
})

test('shuffling is a permutation for every size', () => {
  for (const count of [1, 2, 3, 100]) {
    expect([...shuffledOrder(count, 1, philoxRandom(3))].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i))
  }
})

describe('a broken image', () => {
  test('is an error that names it, after the batches before it', async () => {
    const seen: number[][] = []
    const run = async () => {
      for await (const { samples } of batches(dented(), { batchSize: 4, preprocessor })) seen.push([...samples])
    }
    await expect(run()).rejects.toMatchObject({ code: 'E_IMAGE', message: expect.stringContaining('broken.png') })
    expect(seen).toEqual([[0, 1, 2, 3]])
  })

  test('or counted and skipped, the batches staying full', async () => {
    const skipped: string[] = []
    const list = await all(dented(), { skipBroken: true, epochs: 2, onSkip: ({ message }) => skipped.push(message) })
    expect(order(list).slice(0, 3)).toEqual([[0, 1, 2, 3], [5, 6, 7, 8], [9]])
    expect(list.map((batch) => batch.skipped)).toEqual([0, 1, 1, 1, 2, 2])
    expect(skipped).toHaveLength(2)
    const after = await all(dented(), { skipBroken: true, epochs: 2, start: list[1].next })
    expect(order(after)).toEqual(order(list).slice(2))
  })

  test('the dataset may say so', async () => {
    expect(order(await all(new Dataset(dented().samples, { ...whole, skipBroken: true, classNames: whole.classNames })))).toHaveLength(3)
  })

  test('when all are broken there is no end without a word', async () => {
    const none = new Dataset([{ id: 'x', image: join(root, 'broken.png') }])
    await expect(all(none, { skipBroken: true, epochs: Number.POSITIVE_INFINITY })).rejects.toMatchObject({ code: 'E_DATA' })
  })
})

describe('stopping', () => {
  test('an abort ends the wait with its reason', async () => {
    const stop = new AbortController()
    const run = async () => {
      for await (const batch of batches(whole, { batchSize: 2, preprocessor, epochs: Number.POSITIVE_INFINITY, signal: stop.signal })) {
        if (batch.epoch === 1) stop.abort(new Error('enough'))
      }
    }
    await expect(run()).rejects.toThrow('enough')
    await expect(all(whole, { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before')
  })

  test('a consumer that leaves ends the work: no image is opened after that', async () => {
    let opened = 0
    const watched = watchedSet(() => {
      opened += 1
    })
    for await (const _ of batches(watched, { batchSize: 2, preprocessor, prefetch: 10, concurrency: 2, epochs: Number.POSITIVE_INFINITY }))
      break
    const left = opened
    await sleep(90)
    expect(opened).toBe(left)
  })

  test('no more is prepared than asked for', async () => {
    let opened = 0
    const watched = watchedSet(() => {
      opened += 1
    })
    const iterator = batches(watched, { batchSize: 3, preprocessor, prefetch: 2 })
    await iterator.next()
    while (opened < 3 + 9) await sleep(5) // the batch given, and 3 · (1 + 2) in hand
    await sleep(90)
    expect(opened).toBe(3 + 9)
    await iterator.return(undefined)
  })
})

describe('the cache', () => {
  test('decodes each image once, up to its budget', async () => {
    const small = new ImageCache(5 * 360)
    await all(whole, { epochs: 3, cache: small })
    expect(small.bytes).toBe(5 * 360)
    // Which images come first is the decoders' business: one that is surely kept needs room for all.
    const cache = new ImageCache(whole.length * 360)
    await all(whole, { epochs: 3, cache })
    expect(cache.bytes).toBe(whole.length * 360)
    writeFileSync(join(root, 'first.png'), 'gone')
    const moved = new Dataset([{ ...whole.samples[0], image: join(root, 'first.png') }], whole)
    expect(order(await all(moved, { cache }))).toEqual([[0]])
  })
})

test.each<[string, Partial<BatchOptions>, string]>([
  ['no images a batch', { batchSize: 0 }, 'E_OPTION'],
  ['half a batch', { batchSize: 1.5 }, 'E_OPTION'],
  ['no decoder', { concurrency: 0 }, 'E_OPTION'],
  ['a batch that is always dropped', { batchSize: 11, dropLast: true }, 'E_OPTION'],
  ['a size that follows the image', { preprocessor: ImagePreprocessor.fromJson({ do_center_crop: false }) }, 'E_OPTION'],
])('%s is refused', async (_, options, code) => {
  await expect(all(whole, options)).rejects.toMatchObject({ code })
})

test('an empty set is refused', async () => {
  await expect(all(new Dataset([]))).rejects.toMatchObject({ code: 'E_DATA' })
})
