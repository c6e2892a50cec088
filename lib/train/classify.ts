// Zero-shot classification (Radford et al. 2021) of a few images, or of a stream of them.
import { Dataset } from '../data/dataset.js'
import { type ImageSource, imageName } from '../data/decode.js'
import { CambiumError } from '../errors.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { encodeStream, type StreamItem, type StreamOptions } from './feature-stream.js'
import { classHead, DEFAULT_TEMPLATES, encodeImages, similarities } from './features.js'

/** Prompts, what is injected, and how images are read. */
export interface ClassifyOptions {
  /** prompts with one {} for the label; default `a photo of a {}.` */
  templates?: readonly string[]
  /** features of the labels, [C, P], that {@link classHead} gave for this model and injection: labels are not encoded again */
  head?: Float32Array
  /** what is put into the model: a method or an adapter */
  injection?: Injection
  /** encoded at once; default 64. Changes no result */
  batch?: number
  /** turn images as their EXIF orientation says */
  exif?: boolean
  /** stops between two batches, with its reason */
  signal?: AbortSignal
}

/** The most likely label of an image, and the probability of every one. */
export interface Classification {
  readonly label: string
  /** of each label, in their order; they add up to one */
  readonly probabilities: Float32Array
}

/**
 * The most likely label of each image: softmax of exp(logit_scale) · cosine.
 * @param images paths or encoded images
 * @throws E_IMAGE for an image that cannot be decoded, E_DATA without labels, E_TEMPLATE, E_OPTION for a head of other labels
 */
export async function classify(
  clip: Clip,
  images: readonly ImageSource[],
  labels: readonly string[],
  options: ClassifyOptions = {},
): Promise<Classification[]> {
  if (images.length === 0) return []
  const { templates, head: known, injection, ...rest } = options
  const data = new Dataset(images.map((image, i) => ({ id: `${i} ${imageName(image)}`, image })))
  const head = await headOf(clip, labels, options)
  const { values } = await encodeImages(clip, data, injection, rest)
  const scale = Math.exp(await clip.logitScale.item())
  const out: Classification[] = []
  await similarities(values, head, clip.config.projectionDim, (scores, _, rows) => {
    for (let row = 0; row < rows; row++) out.push(softmax(scores.subarray(row * labels.length, (row + 1) * labels.length), scale, labels))
  })
  return out
}

/** Features of the labels: those given, or encoded now. @throws E_OPTION for given ones that do not fit; what classHead throws */
async function headOf(
  clip: Clip,
  labels: readonly string[],
  { head, templates, injection, batch, signal }: Pick<ClassifyOptions, 'head' | 'templates' | 'injection' | 'batch' | 'signal'>,
): Promise<Float32Array> {
  if (head === undefined) return classHead(clip, labels, templates ?? DEFAULT_TEMPLATES, injection, { batch, signal })
  if (templates !== undefined) throw new CambiumError('E_OPTION', 'templates: expected none with a head, which has been made with its own')
  const { projectionDim } = clip.config
  if (labels.length > 0 && head.length === labels.length * projectionDim) return head
  const wanted = `${labels.length} × ${projectionDim} numbers, as classHead gives for these labels`
  throw new CambiumError('E_OPTION', `head: expected ${wanted}, got ${head.length}`)
}

/** A label and its probability, in [0, 1]. */
export interface Guess {
  readonly label: string
  /** in [0, 1] */
  readonly probability: number
}

/** The answer for an item of a stream. */
export interface Classified<T> {
  readonly item: T
  /** the most likely labels, best first; absent with an error */
  readonly top?: readonly Guess[]
  /** why it has no answer: E_IMAGE, or the item's own */
  readonly error?: CambiumError
}

/** Prompts, and how many labels are told of each image. */
export interface ClassifyStreamOptions extends StreamOptions {
  /** prompts with one {} for the label; default `a photo of a {}.` */
  templates?: readonly string[]
  /** features of the labels, [C, P], that {@link classHead} gave for this model and injection: labels are not encoded again */
  head?: Float32Array
  /** labels told of each image; default 5 */
  top?: number
}

/**
 * The same for any number of images, batch by batch, with those that cannot be decoded in their places.
 * @throws E_DATA without labels, E_TEMPLATE, E_OPTION; what encodeStream throws
 */
export async function* classifyStream<T extends StreamItem>(
  clip: Clip,
  items: AsyncIterable<T> | Iterable<T>,
  labels: readonly string[],
  options: ClassifyStreamOptions = {},
): AsyncGenerator<Classified<T>[], void, undefined> {
  const { templates, head, ...rest } = options
  checkTop(rest.top)
  const values = await headOf(clip, labels, options)
  yield* classifyByHead(clip, items, { labels, values }, rest)
}

/** What images are compared with. */
export interface ClassHead {
  readonly labels: readonly string[]
  /** [C, P], each row of length 1 */
  readonly values: Float32Array
}

/** {@link classifyStream} with class features that are there already. @throws E_OPTION; what encodeStream throws */
export async function* classifyByHead<T extends StreamItem>(
  clip: Clip,
  items: AsyncIterable<T> | Iterable<T>,
  { labels, values }: ClassHead,
  { top = 5, ...options }: Omit<ClassifyStreamOptions, 'templates' | 'head'> = {},
): AsyncGenerator<Classified<T>[], void, undefined> {
  checkTop(top)
  const width = clip.config.projectionDim
  const scale = Math.exp(await clip.logitScale.item())
  for await (const encoded of encodeStream(clip, items, { ...options, normalize: true })) {
    const features = encoded.flatMap(({ feature }) => feature ?? [])
    const queries = new Float32Array(features.length * width)
    for (const [row, feature] of features.entries()) queries.set(feature, row * width)
    const guesses: Guess[][] = []
    await similarities(queries, values, width, (scores, _, rows) => {
      for (let row = 0; row < rows; row++)
        guesses.push(guessesOf(scores.subarray(row * labels.length, (row + 1) * labels.length), scale, labels, top))
    })
    let row = 0
    yield encoded.map(({ item, error }) => {
      if (error !== undefined) return { item, error }
      row += 1
      return { item, top: guesses[row - 1] }
    })
  }
}

/** @throws E_OPTION for a number of labels that is no positive integer */
export function checkTop(top = 1): void {
  if (!Number.isInteger(top) || top < 1) throw new CambiumError('E_OPTION', `top: expected a positive integer, got ${top}`)
}

/** The most likely labels, best first. @param cosines [C] of an image; @param scale exp(logit_scale) */
export function guessesOf(cosines: Float32Array, scale: number, labels: readonly string[], top: number): Guess[] {
  return best(softmax(cosines, scale, labels).probabilities, labels, top)
}

function best(probabilities: Float32Array, labels: readonly string[], count: number): Guess[] {
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a] || a - b)
  return order.slice(0, count).map((i) => ({ label: labels[i], probability: Number(probabilities[i].toPrecision(7)) }))
}

function softmax(cosines: Float32Array, scale: number, labels: readonly string[]): Classification {
  const best = cosines.reduce((most, value, i) => (value > cosines[most] ? i : most), 0)
  const weights = cosines.map((value) => Math.exp(scale * (value - cosines[best])))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return { label: labels[best], probabilities: weights.map((weight) => weight / total) }
}
