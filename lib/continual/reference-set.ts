/**
 * Images and texts that a method holds its model against (ZSCL): no labels, no tasks. What the pretrained model says of them is
 * computed once. Batches of images are a function of seed, task and step alone, so that a resumed run sees the same.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type Batch, batches } from '../data/batches.js'
import type { Dataset } from '../data/dataset.js'
import { digestOf } from '../data/digest.js'
import { ImageCache } from '../data/image-cache.js'
import { openDataset } from '../data/open-dataset.js'
import { CambiumError } from '../errors.js'
import { readFile } from '../files.js'
import { ioError } from '../formats/atomic-file.js'
import type { Clip } from '../models/clip.js'
import { Parameter } from '../tensor.js'
import { DecodedImages, type EncodeOptions, encodeImages, encodeTexts } from '../train/features.js'
import { promptsOf } from './learner-options.js'

export const referenceSchema = z.strictObject({
  /** a folder of images or a table, as a training set; its labels are not used */
  images: z.string().min(1),
  /** a file with a text on each line; default: the captions of the images, or else their class names in templates */
  texts: z.string().min(1).optional(),
  templates: z.array(z.string()).optional(),
})

export type ReferenceOptions = z.infer<typeof referenceSchema>

/** Decoded images that are kept from the encoding on. */
const DECODED_BYTES = 256e6

/** Where the epochs of a task's reference batches begin, above any number that a run gets to. */
const EPOCHS_OF_A_TASK = 65536

/** What shuffles the images. */
export interface ReferenceDraw {
  readonly seed: number
  readonly task: number
}

/** One batch: pixels, and what the teacher says. */
export interface ReferenceBatch {
  readonly pixels: Float32Array
  readonly shape: readonly number[]
  /** the teacher's features of these images, [B, P] */
  readonly image: Float32Array
}

export class ReferenceSet {
  private loader: { next: number; task: number; batches: AsyncGenerator<Batch> } | undefined

  private constructor(
    private readonly clip: Clip,
    readonly data: Dataset,
    /** [N, P], of the teacher */
    private readonly images: Float32Array,
    /** [M, P], of the teacher */
    readonly texts: Parameter,
    /** tells these images and texts from others */
    readonly settings: Readonly<Record<string, unknown>>,
    private readonly cache: ImageCache,
  ) {}

  /**
   * Opens the images and texts and encodes them with the model as it is now: the teacher.
   * @throws E_NOT_FOUND, E_DATA without texts; what the data report
   */
  static async open(clip: Clip, options: ReferenceOptions, encode: EncodeOptions = {}): Promise<ReferenceSet> {
    const data = await openDataset(options.images, { templates: options.templates, skipBroken: true })
    const texts = options.texts === undefined ? textsOf(data) : await linesOf(options.texts)
    if (texts.length === 0)
      throw new CambiumError('E_DATA', `reference: expected texts, captions or class names in ${options.images}, got none`)
    const decoded = new DecodedImages(DECODED_BYTES)
    const { values, samples } = await encodeImages(clip, data, undefined, { ...encode, decoded })
    const whole = samples.length === data.length
    const features = await encodeTexts(clip, texts, undefined, encode)
    const held = Parameter.named('reference texts', features, [texts.length, clip.config.projectionDim])
    const [readable, cache] = whole ? [data, decoded.of(data)] : [data.subset(samples), new ImageCache(DECODED_BYTES)] // by number
    return new ReferenceSet(clip, readable, values, held, { images: digestOf(data), texts: sha256(texts) }, cache)
  }

  /** Features, and images that are decoded already. */
  get bytes(): number {
    return this.images.byteLength + 4 * this.texts.count + this.cache.bytes
  }

  /**
   * The batch of a step: shuffled passes over the images, each without its last, smaller batch.
   * @param size at most the images of the set
   */
  async batch(draw: ReferenceDraw, step: number, size: number): Promise<ReferenceBatch> {
    if (size > this.data.length)
      throw new CambiumError('E_OPTION', `reference: expected at least a batch of ${size} images that can be read, got ${this.data.length}`)
    const batch = await this.batchOf(draw, step, size)
    const width = this.clip.config.projectionDim
    const image = new Float32Array(size * width)
    for (const [row, sample] of batch.samples.entries()) image.set(this.images.subarray(sample * width, (sample + 1) * width), row * width)
    return { pixels: batch.pixels, shape: batch.shape, image }
  }

  /** Stops to decode ahead. */
  async rest(): Promise<void> {
    await this.loader?.batches.return(undefined)
    this.loader = undefined
  }

  dispose(): void {
    void this.rest()
    this.texts.dispose()
  }

  private async batchOf({ seed, task }: ReferenceDraw, step: number, batchSize: number): Promise<Batch> {
    if (this.loader?.next !== step || this.loader.task !== task) {
      await this.rest()
      const perEpoch = Math.floor(this.data.length / batchSize)
      const epoch = task * EPOCHS_OF_A_TASK + Math.floor(step / perEpoch)
      const start = { epoch, position: (step % perEpoch) * batchSize }
      const { preprocessor } = this.clip
      const options = {
        batchSize,
        preprocessor,
        seed,
        start,
        shuffle: true,
        dropLast: true,
        cache: this.cache,
        epochs: Number.POSITIVE_INFINITY,
      }
      this.loader = { next: step, task, batches: batches(this.data, options) }
    }
    this.loader.next++
    return (await this.loader.batches.next()).value as Batch
  }
}

const sha256 = (texts: readonly string[]) => createHash('sha256').update(JSON.stringify(texts)).digest('hex')

function textsOf(data: Dataset): string[] {
  const captions = data.samples.flatMap((sample) => sample.captions ?? [])
  return [...new Set(captions.length > 0 ? captions : promptsOf(data).flatMap(({ prompts }) => prompts))]
}

async function linesOf(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch((error) => Promise.reject(ioError(path, error)))
  const lines = text.split('\n').map((line) => line.trim())
  return [...new Set(lines.filter((line) => line !== ''))]
}
