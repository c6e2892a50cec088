/**
 * Features of any number of images and texts, in their order, with a bounded number of them in memory: while one batch is
 * computed, the next is decoded and results of the one before are handed out. The consumer sets the pace.
 */
import { decodeImage, type ImageSource, imageName } from '../data/decode.js'
import { Limiter } from '../data/limiter.js'
import { preprocessImage } from '../data/preprocess-image.js'
import { abortReason, CambiumError, fail, isCambiumError } from '../errors.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { l2Normalize } from '../ops.js'
import { noGradient, step, Tensor } from '../tensor.js'

/** An image, a text, or what was known to be wrong before: it comes out in its place. */
export type StreamItem = { readonly image: ImageSource } | { readonly text: string } | { readonly error: CambiumError }

/** How a stream is encoded. */
/** How a stream is encoded. */
export interface StreamOptions {
  /** Encoded at once; a result waits until its batch is full or the stream ends. Default 32. Changes no result. */
  batch?: number
  /** What is put into the model: a method or an adapter. */
  injection?: Injection
  /** Rows of length 1; default true. */
  normalize?: boolean
  /** Turn images as their EXIF orientation says. Default false. */
  exif?: boolean
  /** Images decoded at once. Default 4, the width of Node's own pool. */
  concurrency?: number
  signal?: AbortSignal
}

/** An item as it came, with its feature or with what was wrong with it. */
export interface Encoded<T> {
  readonly item: T
  /** [P]; absent with an error */
  readonly feature?: Float32Array
  /** E_IMAGE, or the item's own */
  readonly error?: CambiumError
}

/** Batches that are read, decoded or computed at the same time. */
const DEPTH = 3

/**
 * Yields results batch by batch; a batch holds one kind.
 * @throws E_OPTION; the signal's reason when aborted; what the source throws
 */
export async function* encodeStream<T extends StreamItem>(
  clip: Clip,
  items: AsyncIterable<T> | Iterable<T>,
  options: StreamOptions = {},
): AsyncGenerator<Encoded<T>[], void, undefined> {
  const { batch = 32, signal, concurrency = 4 } = options
  if (!Number.isInteger(batch) || batch < 1) throw new CambiumError('E_OPTION', `batch: expected a positive integer, got ${batch}`)
  const limiter = new Limiter(concurrency)
  const groups = groupsOf(items, batch)
  const underWay: Promise<Encoded<T>[]>[] = []
  try {
    let reading: Promise<IteratorResult<T[], void>> | undefined = groups.next()
    while (reading !== undefined || underWay.length > 0) {
      if (signal?.aborted) throw abortReason(signal)
      // What is done goes out at once, even while the source lets us wait.
      const room: Promise<IteratorResult<T[], void>> | undefined = underWay.length < DEPTH ? reading : undefined
      const waits: Promise<'read' | 'done'>[] = room === undefined ? [] : [room.then(() => 'read' as const)]
      if (underWay.length > 0) waits.push(underWay[0].then(() => 'done' as const))
      if ((await Promise.race(waits)) === 'done' || room === undefined) yield await (underWay.shift() as Promise<Encoded<T>[]>)
      else {
        const group: IteratorResult<T[], void> = await room
        reading = group.done ? undefined : groups.next()
        reading?.catch(() => undefined) // looked at in its turn
        if (!group.done) underWay.push(startGroup(clip, group.value, limiter, options))
      }
    }
  } finally {
    limiter.close()
  }
}

async function* groupsOf<T extends StreamItem>(items: AsyncIterable<T> | Iterable<T>, size: number): AsyncGenerator<T[], void, undefined> {
  let group: T[] = []
  let kind: string | undefined
  for await (const item of items) {
    requireItem(item)
    const own = 'image' in item ? 'image' : 'text' in item ? 'text' : kind
    if (group.length > 0 && kind !== undefined && own !== kind) {
      yield group
      group = []
    }
    kind = own
    group.push(item)
    if (group.length < size) continue
    yield group
    group = []
    kind = undefined
  }
  if (group.length > 0) yield group
}

/** @throws E_ARGUMENT for what has neither an image nor a text, such as a bare path */
export function requireItem(item: StreamItem): void {
  const { image, text, error } = (item ?? {}) as Partial<Record<'image' | 'text' | 'error', unknown>>
  const isImage = typeof image === 'string' || ArrayBuffer.isView((image as { bytes?: unknown } | null | undefined)?.bytes)
  if (!isImage && typeof text !== 'string' && error === undefined)
    fail('E_ARGUMENT', 'items', 'each to be {image: path or {bytes, name}} or {text}', item)
}

function startGroup<T extends StreamItem>(
  clip: Clip,
  group: readonly T[],
  limiter: Limiter,
  options: StreamOptions,
): Promise<Encoded<T>[]> {
  const results = encodeGroup(clip, group, limiter, options)
  results.catch(() => undefined) // looked at in its turn
  return results
}

async function encodeGroup<T extends StreamItem>(
  clip: Clip,
  group: readonly T[],
  limiter: Limiter,
  { injection, normalize = true, exif }: StreamOptions,
): Promise<Encoded<T>[]> {
  const loaded = await Promise.all(group.map((item) => limiter.run(() => load(clip, item, exif))))
  const pixels = loaded.filter((entry) => entry instanceof Pixels)
  const texts = loaded.filter((entry) => typeof entry === 'string')
  const features = await rowsOf(clip, pixels, texts, injection, normalize)
  const width = clip.config.projectionDim
  let row = 0
  return group.map((item, i) => {
    const entry = loaded[i]
    if (entry instanceof Pixels || typeof entry === 'string') {
      row += 1
      return { item, feature: features.subarray((row - 1) * width, row * width) }
    }
    return { item, error: entry }
  })
}

/** A class, so that it can be told from an error of another realm. */
class Pixels {
  constructor(readonly values: Float32Array) {}
}

async function load(clip: Clip, item: StreamItem, exif: boolean | undefined): Promise<Pixels | string | CambiumError> {
  if ('error' in item) return item.error
  if ('text' in item) return item.text
  try {
    const image = await decodeImage(item.image, { exif })
    return new Pixels(await preprocessImage(image, imageName(item.image), clip.preprocessor.plan(image.width, image.height)))
  } catch (error) {
    if (isCambiumError(error) && error.code === 'E_IMAGE') return error
    throw error
  }
}

/** [rows, P] of the images, or of the texts, of a group. */
async function rowsOf(
  clip: Clip,
  pixels: readonly Pixels[],
  texts: readonly string[],
  injection: Injection | undefined,
  normalize: boolean,
): Promise<Float32Array> {
  if (pixels.length + texts.length === 0) return new Float32Array()
  const encode = pixels.length > 0 ? imageEncoder(clip, pixels, injection) : textEncoder(clip, texts, injection)
  const tensor = await step(() => noGradient(() => (normalize ? l2Normalize(encode()) : encode())))
  try {
    return await tensor.floats()
  } finally {
    tensor.dispose()
  }
}

function imageEncoder(clip: Clip, pixels: readonly Pixels[], injection: Injection | undefined): () => Tensor {
  const side = clip.config.vision.imageSize
  const each = 3 * side * side
  const values = new Float32Array(pixels.length * each)
  for (const [slot, image] of pixels.entries()) values.set(image.values, slot * each)
  return () => clip.encodeImage(Tensor.from(values, [pixels.length, 3, side, side]), injection)
}

function textEncoder(clip: Clip, texts: readonly string[], injection: Injection | undefined): () => Tensor {
  const tokens = clip.tokenize(texts)
  return () => clip.encodeText(tokens, injection)
}
