/**
 * The loader: an async iterable of batches of pixels, decoded ahead of the consumer on other threads, a bounded number at a
 * time. The same seed gives the same batches whatever the timing; it can start anywhere, and each batch says where the next
 * one starts, which is all that a resumed run needs.
 */
import { abortReason, CambiumError, isCambiumError } from '../errors.js'
import type { TrainCrop } from '../formats/crop.js'
import type { ImagePreprocessor } from '../formats/preprocessor.js'
import type { Dataset, Sample } from './dataset.js'
import { imageName } from './decode.js'
import { ImageCache } from './image-cache.js'
import { Limiter } from './limiter.js'
import { preprocessImage } from './preprocess-image.js'
import { fillTemplate } from './prompts.js'
import { type DataRandom, philoxRandom, shuffledOrder } from './random.js'

/** A place between batches: how many samples of an epoch's order have been used, broken ones included. */
export interface Cursor {
  readonly epoch: number
  readonly position: number
}

export interface Batch {
  /** [B, 3, H, W], normalised. */
  readonly pixels: Float32Array
  readonly shape: readonly [number, number, number, number]
  /** Index of each image in the dataset. */
  readonly samples: Int32Array
  /** Class of each image; absent for sets without labels. */
  readonly labels?: Int32Array
  /** A text for each image; absent unless asked for. */
  readonly texts?: readonly string[]
  readonly epoch: number
  /** Where to start for the batch after this one. */
  readonly next: Cursor
  /** Broken images skipped by this loader so far. */
  readonly skipped: number
}

export interface BatchOptions {
  batchSize: number
  preprocessor: ImagePreprocessor
  /** RandomResizedCrop and flip, for training; absent: the evaluation transform. */
  augment?: TrainCrop
  /** `random`: a caption or a filled template drawn for each image and epoch; `first`: always the first. Default none. */
  texts?: 'random' | 'first'
  shuffle?: boolean
  seed?: number
  /** How many passes; Infinity for a consumer that stops by itself. Default 1. */
  epochs?: number
  start?: Cursor
  /** Leave out the last, smaller batch of an epoch. */
  dropLast?: boolean
  /** Batches prepared ahead. Default 1. */
  prefetch?: number
  /** Images decoded at once. Default 4, the width of Node's own pool. */
  concurrency?: number
  /** Count and skip images that cannot be decoded; default as the dataset says. */
  skipBroken?: boolean
  /** Told of each skipped image. */
  onSkip?: (error: CambiumError) => void
  exif?: boolean
  /** Decoded images kept between epochs and loaders. Default: 256 MB when there are several epochs. */
  cache?: ImageCache
  signal?: AbortSignal
  random?: DataRandom
}

interface Item {
  readonly index: number
  readonly epoch: number
  /** Position in the epoch after this sample. */
  readonly position: number
  readonly last: boolean
  readonly pixels: Promise<Float32Array>
  readonly text: string | undefined
}

/**
 * Iterates over a dataset. Errors: E_OPTION; E_DATA for an empty set, or when every image of an epoch is broken; E_IMAGE names a
 * broken file; the signal's reason when aborted.
 */
export async function* batches(dataset: Dataset, options: BatchOptions): AsyncGenerator<Batch, void, undefined> {
  const size = checkOptions(dataset, options)
  const loader = new Loader(dataset, options)
  const window: Item[] = []
  const ahead = options.batchSize * (1 + (options.prefetch ?? 1))
  const source = loader.items()
  const fill = () => {
    while (window.length < ahead) {
      const next = source.next()
      if (next.done === true) return
      window.push(next.value)
    }
  }
  let ready: { item: Item; pixels: Float32Array }[] = []
  try {
    for (;;) {
      fill()
      const item = window.shift()
      if (item === undefined) return
      const pixels = await loader.settle(item)
      if (pixels !== undefined) ready.push({ item, pixels })
      if (ready.length < options.batchSize && !item.last) continue
      const complete = ready.length === options.batchSize || (options.dropLast !== true && ready.length > 0)
      const taken = ready
      ready = []
      if (complete) loader.used(item.epoch)
      if (item.last) loader.endEpoch(item.epoch)
      if (!complete) continue
      fill()
      yield loader.assemble(taken, item, size)
    }
  } finally {
    loader.close()
    for (const { pixels } of window) pixels.catch(() => undefined)
  }
}

function checkOptions(dataset: Dataset, options: BatchOptions): readonly [number, number] {
  const whole = (name: string, value: number, least: number) => {
    if (!Number.isInteger(value) || value < least)
      throw new CambiumError('E_OPTION', `${name}: expected a whole number of at least ${least}, got ${value}`)
  }
  whole('batchSize', options.batchSize, 1)
  whole('prefetch', options.prefetch ?? 1, 0)
  whole('concurrency', options.concurrency ?? 4, 1)
  if (dataset.length === 0) throw new CambiumError('E_DATA', 'batches: expected at least one image, got none')
  if (options.dropLast === true && dataset.length < options.batchSize) {
    throw new CambiumError(
      'E_OPTION',
      `batchSize: expected at most the ${dataset.length} images of the set when the last batch is dropped, got ${options.batchSize}`,
    )
  }
  const size = options.preprocessor.outputSize
  if (size === undefined)
    throw new CambiumError('E_OPTION', 'batches: expected a preprocessor with a fixed output size, got one that follows the image')
  return size
}

class Loader {
  readonly #random: DataRandom
  readonly #limiter: Limiter
  readonly #cache: ImageCache
  readonly #labelled: boolean
  readonly #aborted: Promise<never> | undefined
  #onAbort: (() => void) | undefined
  #skipped = 0
  #lastUsed = -1

  constructor(
    private readonly dataset: Dataset,
    private readonly options: BatchOptions,
  ) {
    this.#random = options.random ?? philoxRandom(options.seed ?? 0)
    this.#limiter = new Limiter(options.concurrency ?? 4)
    this.#cache = options.cache ?? new ImageCache((options.epochs ?? 1) > 1 ? 256e6 : 0)
    this.#labelled = dataset.labelled
    const { signal } = options
    if (signal === undefined) return
    this.#aborted = new Promise((_, reject) => {
      this.#onAbort = () => reject(abortReason(signal))
      if (signal.aborted) this.#onAbort()
      else signal.addEventListener('abort', this.#onAbort, { once: true })
    })
    this.#aborted.catch(() => undefined)
  }

  /** Every sample from the start on, epoch after epoch; taking one starts its work. */
  *items(): Generator<Item, void, undefined> {
    const { epochs = 1, start = { epoch: 0, position: 0 }, shuffle = false } = this.options
    const count = this.dataset.length
    for (let epoch = start.epoch; epoch < epochs; epoch++) {
      const order = shuffle ? shuffledOrder(count, epoch, this.#random) : undefined
      for (let position = epoch === start.epoch ? start.position : 0; position < count; position++) {
        yield this.#item(order === undefined ? position : order[position], epoch, position + 1)
      }
    }
  }

  #item(index: number, epoch: number, position: number): Item {
    const sample = this.dataset.samples[index]
    const draws = this.#random.sample(epoch, index)
    const text = this.#textOf(sample, draws)
    const pixels = this.#limiter.run(() => this.#load(sample, index, draws))
    pixels.catch(() => undefined) // looked at in its turn; until then it is not unhandled
    return { index, epoch, position, last: position === this.dataset.length, pixels, text }
  }

  async #load({ image: source }: Sample, index: number, draws: () => number): Promise<Float32Array> {
    const { preprocessor, augment, exif } = this.options
    const image = await this.#cache.load(index, source, { exif })
    const { width, height } = image
    const plan = augment === undefined ? preprocessor.plan(width, height) : preprocessor.trainPlan(width, height, draws, augment)
    return preprocessImage(image, imageName(source), plan)
  }

  #textOf({ id, captions, label }: Sample, draws: () => number): string | undefined {
    if (this.options.texts === undefined) return undefined
    const draw = this.options.texts === 'random' ? draws() : 0
    const pick = (list: readonly string[]) => list[Math.floor(draw * list.length)]
    if (captions !== undefined && captions.length > 0) return pick(captions)
    const { classNames, templates } = this.dataset
    if (label === undefined) throw new CambiumError('E_DATA', `${id}: expected a caption or a label to make a text of, got neither`)
    return templates.length === 0 ? classNames[label] : fillTemplate(pick(templates), classNames[label])
  }

  /** Waits for a sample; undefined for a broken one that is skipped. */
  async settle(item: Item): Promise<Float32Array | undefined> {
    if (this.options.signal?.aborted) throw abortReason(this.options.signal)
    try {
      return await (this.#aborted === undefined ? item.pixels : Promise.race([item.pixels, this.#aborted]))
    } catch (error) {
      const skip = this.options.skipBroken ?? this.dataset.skipBroken
      if (!skip || !isCambiumError(error) || error.code !== 'E_IMAGE') throw error
      this.#skipped += 1
      this.options.onSkip?.(error)
      return undefined
    }
  }

  /** A batch of this epoch was made. */
  used(epoch: number): void {
    this.#lastUsed = epoch
  }

  /** An epoch without one batch would repeat for ever. */
  endEpoch(epoch: number): void {
    const { position = 0, epoch: first = 0 } = this.options.start ?? {}
    if (this.#lastUsed !== epoch && (position === 0 || epoch > first)) {
      const wanted = this.options.dropLast === true ? `a batch of ${this.options.batchSize} images` : 'at least one image'
      throw new CambiumError(
        'E_DATA',
        `batches: expected ${wanted} that can be decoded, got none in epoch ${epoch} (first: ${imageName(this.dataset.samples[0].image)})`,
      )
    }
  }

  assemble(ready: readonly { item: Item; pixels: Float32Array }[], last: Item, [width, height]: readonly [number, number]): Batch {
    const each = 3 * width * height
    const pixels = new Float32Array(ready.length * each)
    for (const [slot, entry] of ready.entries()) pixels.set(entry.pixels, slot * each)
    const samples = Int32Array.from(ready, ({ item }) => item.index)
    return {
      pixels,
      shape: [ready.length, 3, height, width],
      samples,
      ...(this.#labelled ? { labels: samples.map((index) => this.dataset.samples[index].label ?? -1) } : {}),
      ...(this.options.texts === undefined ? {} : { texts: ready.map(({ item }) => item.text ?? '') }),
      epoch: last.epoch,
      next: last.last ? { epoch: last.epoch + 1, position: 0 } : { epoch: last.epoch, position: last.position },
      skipped: this.#skipped,
    }
  }

  close(): void {
    this.#limiter.close()
    if (this.#onAbort !== undefined) this.options.signal?.removeEventListener('abort', this.#onAbort)
  }
}
