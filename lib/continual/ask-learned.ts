/**
 * A run of `learn` that is asked about any number of images, in their order, with a bounded number of them in memory: classes with
 * probabilities, or features, and what was chosen for each image. While one block is computed the images of the next are decoded.
 */
import { Dataset } from '../data/dataset.js'
import { imageName } from '../data/decode.js'
import { Limiter } from '../data/limiter.js'
import { abortReason, CambiumError, isCambiumError } from '../errors.js'
import { type Classified, checkTop, classifyByHead, guessesOf } from '../train/classify.js'
import { type Encoded, encodeStream, requireItem, type StreamItem, type StreamOptions } from '../train/feature-stream.js'
import { DecodedImages, type EncodeOptions } from '../train/features.js'
import { promptHead } from './cosine-scores.js'
import type { ClassPrompts, Scored } from './learner.js'
import { promptsOf } from './learner-options.js'
import type { Learned } from './open-learned.js'

/** How a run is asked about a stream of images. */
export type AskOptions = Pick<StreamOptions, 'batch' | 'exif' | 'concurrency' | 'signal'>

/** Of methods that select: whose parameters the image was given, and how much of them. */
export interface Chosen {
  readonly task?: string
  /** in [0, 1] */
  readonly weight?: number
}

/** Which classes a run is asked about, and how many are told of each image. */
export interface ClassifyLearnedOptions extends AskOptions {
  /** default all that were learned */
  classes?: readonly ClassPrompts[]
  /** classes told of each image; default 5 */
  top?: number
}

/**
 * The most likely classes of each image: softmax of exp(logit_scale) · cosine over `classes`. An item that is no image, or one that
 * cannot be decoded, comes out in its place with an error.
 * @throws E_DATA without classes, E_OPTION; the signal's reason when aborted; what the source throws
 */
export async function* classifyLearned<T extends StreamItem>(
  learned: Learned,
  items: AsyncIterable<T> | Iterable<T>,
  options: ClassifyLearnedOptions = {},
): AsyncGenerator<(Classified<T> & Chosen)[], void, undefined> {
  const { classes = learned.classes, top = 5, ...rest } = options
  const { clip, learner } = learned
  if (classes.length === 0) throw new CambiumError('E_DATA', 'classes: expected at least one, got none')
  checkTop(top)
  const labels = classes.map(({ name }) => name)
  if (!learner.encode) return yield* classifyByHead(clip, items, { labels, values: await promptHead(clip, classes) }, { ...rest, top })
  const scale = Math.exp(await clip.logitScale.item())
  for await (const block of blocksOf(learned, items, rest)) {
    const guesses: ReturnType<typeof guessesOf>[] = []
    const answers = await block.answer(async (data, encode) => {
      const visit = (scores: Float32Array) =>
        void guesses.push(...rowsOf(scores, labels.length, (row) => guessesOf(row, scale, labels, top)))
      return learner.score(data, classes, visit, encode)
    })
    yield answers.map(({ row, ...answer }) => (row === undefined ? answer : { ...answer, top: guesses[row] }))
  }
}

/**
 * Features of images as the run's model reads them: under the parameters that were chosen for each. Texts have features of their own
 * only where the model's weights are what was learned; elsewhere they follow the image, and have an error in their place.
 * @throws as {@link classifyLearned}
 */
export async function* encodeLearned<T extends StreamItem>(
  learned: Learned,
  items: AsyncIterable<T> | Iterable<T>,
  options: AskOptions & Pick<StreamOptions, 'normalize'> = {},
): AsyncGenerator<(Encoded<T> & Chosen)[], void, undefined> {
  const { clip, learner } = learned
  const { encode } = learner
  if (!encode) return yield* encodeStream(clip, items, options)
  const { normalize = true, ...rest } = options
  if (!normalize) throw new CambiumError('E_OPTION', `normalize: expected true, got false: features of ${learner.name} are of length 1`)
  const width = clip.config.projectionDim
  for await (const block of blocksOf(learned, items, rest)) {
    let values = new Float32Array()
    const answers = await block.answer(async (data, asked) => {
      const found = await encode.call(learner, data, asked)
      values = new Float32Array(found.values)
      return found
    })
    yield answers.map(({ row, ...answer }) =>
      row === undefined ? answer : { ...answer, feature: values.subarray(row * width, (row + 1) * width) },
    )
  }
}

/** The classes of one task, or of all. @throws E_OPTION for a task that there is not */
export function classesOf({ tasks, classes }: Learned, name?: string): readonly ClassPrompts[] {
  if (name === undefined) return classes
  const task = tasks.find((one) => one.name === name)
  if (task) return promptsOf(task)
  throw new CambiumError('E_OPTION', `task: expected one of ${tasks.map((one) => one.name).join(', ')}, got ${name}`)
}

/** What became of an item: a row of the answers, or an error. */
type Answer<T> = Chosen & { readonly item: T; readonly row?: number; readonly error?: CambiumError }

/** Asks the method about a set; broken images are told to `onSkip` in their order. */
type Ask = (data: Dataset, options: EncodeOptions) => Promise<Pick<Scored, 'samples' | 'selection'>>

/** Items in blocks of `batch`, or of what the method answers together. */
async function* blocksOf<T extends StreamItem>(learned: Learned, items: AsyncIterable<T> | Iterable<T>, options: AskOptions) {
  const { batch = 32, concurrency = 4, signal } = options
  if (!Number.isInteger(batch) || batch < 1) throw new CambiumError('E_OPTION', `batch: expected a positive integer, got ${batch}`)
  const limiter = new Limiter(concurrency)
  const source = groupsOf(items, learned.learner.block ?? batch)
  const next = async () => {
    const { value } = await source.next()
    return value && new Block(learned, value, options, limiter)
  }
  try {
    let coming = next()
    for (let block = await coming; block; block = await coming) {
      if (signal?.aborted) throw abortReason(signal)
      coming = next()
      coming.catch(() => undefined) // looked at in its turn
      yield block
    }
  } finally {
    limiter.close()
  }
}

async function* groupsOf<T extends StreamItem>(items: AsyncIterable<T> | Iterable<T>, size: number): AsyncGenerator<T[], void, undefined> {
  let group: T[] = []
  for await (const item of items) {
    requireItem(item)
    group.push(item)
    if (group.length < size) continue
    yield group
    group = []
  }
  if (group.length > 0) yield group
}

/** Some items, whose images begin to be decoded. */
class Block<T extends StreamItem> {
  /** of those that are images, in order */
  readonly #data: Dataset
  readonly #decoded = new DecodedImages()

  constructor(
    private readonly learned: Learned,
    private readonly items: readonly T[],
    private readonly options: AskOptions,
    limiter: Limiter,
  ) {
    const { exif } = options
    const images = items.flatMap((item) => ('image' in item ? item.image : []))
    this.#data = new Dataset(images.map((image, i) => ({ id: `${i} ${imageName(image)}`, image })))
    const cache = this.#decoded.of(this.#data)
    for (const [i, image] of images.entries()) limiter.run(() => cache.load(i, image, { exif })).catch(() => undefined) // told by the loader
  }

  async answer(ask: Ask): Promise<Answer<T>[]> {
    const { batch, exif, concurrency: _, signal } = this.options
    const errors: CambiumError[] = []
    const onSkip = (error: CambiumError) => void errors.push(error)
    const encode = { batch, exif, signal, skipBroken: true, onSkip, decoded: this.#decoded }
    const { samples, selection } = await ask(this.#data, encode).catch((error) => this.#none(error, errors))
    const rows = new Map(Array.from(samples, (sample, row) => [sample, row]))
    const { tasks } = this.learned
    let image = 0
    return this.items.map((item) => {
      if ('error' in item) return { item, error: item.error }
      if ('text' in item) return { item, error: this.#noImage() }
      const row = rows.get(image++)
      if (row === undefined) return { item, error: errors.shift() }
      return { item, row, ...(selection ? { task: tasks[selection.task[row]].name, weight: selection.weight[row] } : {}) }
    })
  }

  /** No image of the block could be read: no error of its own. @throws any other */
  #none(error: unknown, errors: readonly CambiumError[]): Pick<Scored, 'samples' | 'selection'> {
    const none = isCambiumError(error) && error.code === 'E_DATA' && errors.length === this.#data.length
    if (!none) throw error
    return { samples: new Int32Array() }
  }

  #noImage(): CambiumError {
    const { name } = this.learned.learner
    return new CambiumError('E_DATA', `text: expected an image, got a text: in a run of ${name} the text tower follows the image`)
  }
}

function rowsOf<R>(scores: Float32Array, columns: number, map: (row: Float32Array) => R): R[] {
  return Array.from({ length: scores.length / columns }, (_, row) => map(scores.subarray(row * columns, (row + 1) * columns)))
}
