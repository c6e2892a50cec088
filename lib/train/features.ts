/**
 * Features for evaluation: normalised rows in host memory, computed batch by batch without gradients. Every row is a function
 * of its own image or text alone, so neither the batch size nor the order changes it.
 */

import { batches } from '../data/batches.js'
import type { Dataset } from '../data/dataset.js'
import { ImageCache } from '../data/image-cache.js'
import { classPrompts } from '../data/prompts.js'
import { abortReason, CambiumError } from '../errors.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { add, l2Normalize, linear } from '../ops.js'
import { noGradient, step, Tensor } from '../tensor.js'

/** What CLIP's users write when nothing else is known of the images. */
export const DEFAULT_TEMPLATES: readonly string[] = ['a photo of a {}.']

export interface EncodeOptions {
  /** Images or texts encoded at once. Default 64. Changes no result. */
  batch?: number
  /** Cosines with a head computed at once, in whole rows. Default 4 million. Changes no result. */
  scoresAtOnce?: number
  signal?: AbortSignal
  /** Told after each batch. */
  onProgress?: (progress: EncodeProgress) => void
  /** Count and leave out images that cannot be decoded; default as the dataset says. */
  skipBroken?: boolean
  onSkip?: (error: CambiumError) => void
  exif?: boolean
  /** Features already computed with the same weights are taken from here; make a new one when weights have changed. */
  cache?: FeatureCache
  /** Decoded images kept for the next evaluation of the same sets. */
  decoded?: DecodedImages
}

export interface EncodeProgress {
  readonly what: 'images' | 'texts'
  readonly done: number
  readonly total: number
}

export interface ImageFeatures {
  /** [N, P], each row of length 1. */
  readonly values: Float32Array
  /** Index in the dataset of each row: [N]; fewer than the dataset's images when broken ones were skipped. */
  readonly samples: Int32Array
  readonly skipped: number
}

/** Decoded images of several sets, for evaluations one after the other. */
export class DecodedImages {
  readonly #caches = new WeakMap<Dataset, ImageCache>()

  /** @param budget bytes for each set; images beyond it are decoded again */
  constructor(readonly budget = 256e6) {}

  /** Those of one set, kept as long as the set is. */
  of(dataset: Dataset): ImageCache {
    const cache = this.#caches.get(dataset) ?? new ImageCache(this.budget)
    this.#caches.set(dataset, cache)
    return cache
  }
}

/** Features by dataset, text and injection, for several heads over the same images or several sets with the same head. A dataset's go with it. */
export class FeatureCache {
  readonly images = new Map<Injection | undefined, WeakMap<Dataset, ImageFeatures>>()
  readonly texts = new Map<Injection | undefined, Map<string, Float32Array>>()
}

/** An injection that depends on which images stand in a batch: their indices in the set. Called inside the batch's step. */
export type SampleInjection = (samples: Int32Array) => Injection

/**
 * Normalised features of the images of a set. Those of a {@link SampleInjection} are not taken from the cache nor put there.
 * @throws E_IMAGE, E_DATA; the signal's reason when aborted
 */
export async function encodeImages(
  clip: Clip,
  dataset: Dataset,
  injection?: Injection | SampleInjection,
  options: EncodeOptions = {},
): Promise<ImageFeatures> {
  const { batch: batchSize = 64, signal, onProgress, skipBroken, onSkip, exif } = options
  const bySample = typeof injection === 'function'
  const cache = bySample ? undefined : options.cache
  const known = bySample ? undefined : cache?.images.get(injection)?.get(dataset)
  if (known !== undefined) return known
  const width = clip.config.projectionDim
  const values = new Float32Array(dataset.length * width)
  const samples = new Int32Array(dataset.length)
  let [rows, skipped] = [0, 0]
  let stored: Promise<void> = Promise.resolve()
  const loader = { batchSize, preprocessor: clip.preprocessor, signal, skipBroken, onSkip, exif, cache: options.decoded?.of(dataset) }
  for await (const batch of batches(dataset, loader)) {
    const encode = () => clip.encodeImage(Tensor.from(batch.pixels, batch.shape), bySample ? injection(batch.samples) : injection)
    const features = await step(() => noGradient(() => l2Normalize(encode())))
    const store = storeAt(values, rows * width, features)
    store.catch(() => {}) // looked at in its turn
    await stored
    stored = store
    samples.set(batch.samples, rows)
    rows += batch.samples.length
    skipped = batch.skipped
    onProgress?.({ what: 'images', done: rows + skipped, total: dataset.length })
  }
  await stored
  const features = { values: values.subarray(0, rows * width), samples: samples.subarray(0, rows), skipped }
  if (!bySample) cache?.images.set(injection, (cache.images.get(injection) ?? new WeakMap()).set(dataset, features))
  return features
}

async function storeAt(values: Float32Array, at: number, features: Tensor): Promise<void> {
  values.set(await take(features), at)
}

/**
 * Normalised features of texts, [N, P]. Longer texts than the context are cut.
 * @throws the signal's reason when aborted
 */
export async function encodeTexts(
  clip: Clip,
  texts: readonly string[],
  injection?: Injection,
  options: EncodeOptions = {},
): Promise<Float32Array> {
  return remembered(options.cache, injection, ['texts', texts], () =>
    encodeGroups(
      clip,
      texts.map((text) => [text]),
      injection,
      options,
    ),
  )
}

/**
 * The zero-shot classifier of Radford et al. (2021): per class every template's feature is normalised, then their mean.
 * @returns [C, P], each row of length 1
 * @throws E_TEMPLATE for a template without exactly one {}, E_DATA without classes
 */
export async function classHead(
  clip: Clip,
  classNames: readonly string[],
  templates: readonly string[] = DEFAULT_TEMPLATES,
  injection?: Injection,
  options: EncodeOptions = {},
): Promise<Float32Array> {
  if (classNames.length === 0) throw new CambiumError('E_DATA', 'classes: expected at least one class name, got none')
  const used = templates.length === 0 ? ['{}'] : templates
  return remembered(options.cache, injection, ['head', classNames, used], () =>
    encodeGroups(clip, classPrompts(classNames, used), injection, options),
  )
}

/** One row a group: the normalised mean of the normalised features of its texts; groups have the same number of texts. */
async function encodeGroups(
  clip: Clip,
  groups: readonly (readonly string[])[],
  injection: Injection | undefined,
  options: EncodeOptions,
): Promise<Float32Array> {
  const { batch = 64, signal, onProgress } = options
  const width = clip.config.projectionDim
  const values = new Float32Array(groups.length * width)
  for (let at = 0; at < groups.length; at += batch) {
    if (signal?.aborted) throw abortReason(signal)
    const part = groups.slice(at, at + batch).map((texts) => clip.tokenize(texts)) // here, so that many do not hold the event loop
    const sums = part[0].map((_, t) => t)
    const mean = await step(() =>
      noGradient(() => {
        const encoded = sums.map((t) =>
          l2Normalize(
            clip.encodeText(
              part.map((texts) => texts[t]),
              injection,
            ),
          ),
        )
        return encoded.length === 1 ? encoded[0] : l2Normalize(encoded.reduce((sum, feature) => add(sum, feature)))
      }),
    )
    values.set(await take(mean), at * width)
    onProgress?.({ what: 'texts', done: Math.min(at + batch, groups.length), total: groups.length })
  }
  return values
}

/** Scores of some queries: `scores` is [rows, C], of the queries that start at `first`. */
export type ScoreVisitor = (scores: Float32Array, first: number, rows: number) => void

/**
 * Cosines of every query with every candidate, in blocks of whole rows, by an f32 product on the device.
 * @param queries [N, P] and @param candidates [C, P], normalised
 */
export async function similarities(
  queries: Float32Array,
  candidates: Float32Array,
  width: number,
  visit: ScoreVisitor,
  { signal, scoresAtOnce = 4e6 }: Pick<EncodeOptions, 'signal' | 'scoresAtOnce'> = {},
): Promise<void> {
  const count = queries.length / width
  const columns = candidates.length / width
  const block = Math.max(1, Math.floor(scoresAtOnce / columns))
  const head = Tensor.from(candidates, [columns, width])
  try {
    for (let first = 0; first < count; first += block) {
      if (signal?.aborted) throw abortReason(signal)
      const rows = Math.min(block, count - first)
      const part = queries.subarray(first * width, (first + rows) * width)
      const scores = await step(() => noGradient(() => linear(Tensor.from(part, [rows, width]), head, { dtype: 'f32' })))
      visit(await take(scores), first, rows)
    }
  } finally {
    head.dispose()
  }
}

async function take(tensor: Tensor): Promise<Float32Array> {
  try {
    return await tensor.floats()
  } finally {
    tensor.dispose()
  }
}

async function remembered(
  cache: FeatureCache | undefined,
  injection: Injection | undefined,
  what: readonly unknown[],
  compute: () => Promise<Float32Array>,
): Promise<Float32Array> {
  if (cache === undefined) return compute()
  const key = JSON.stringify(what)
  const texts = cache.texts.get(injection) ?? new Map<string, Float32Array>()
  cache.texts.set(injection, texts)
  const known = texts.get(key) ?? (await compute())
  texts.set(key, known)
  return known
}
