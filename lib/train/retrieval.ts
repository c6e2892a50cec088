/** Retrieval over a set of captioned images, both ways. */
import type { Dataset } from '../data/dataset.js'
import { CambiumError } from '../errors.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { type EncodeOptions, encodeImages, encodeTexts, type ImageFeatures, similarities } from './features.js'
import { bestRank, type RankSummary, rankOf, summarizeRanks } from './metrics.js'

/** Ranks both ways over a captioned set. */
export interface RetrievalResult {
  readonly images: number
  readonly captions: number
  /** Rank of the best of an image's own captions among all captions. */
  readonly imageToText: RankSummary
  /** Rank of a caption's own image among all images. */
  readonly textToImage: RankSummary
  /** Broken images left out, with their captions. */
  readonly skipped: number
}

/**
 * R@1, 5, 10, median and mean rank over all images and all captions of a set; ties by index (metrics.ts).
 * @throws E_DATA when an image has no caption
 */
export async function retrieve(
  clip: Clip,
  dataset: Dataset,
  options: EncodeOptions & {
    injection?: Injection
    /** Told, for each image that could be read, its index in the set and the rank of the best of its own captions. */
    onRanks?: (samples: Int32Array, ranks: Int32Array) => void
  } = {},
): Promise<RetrievalResult> {
  requireCaptions(dataset)
  const { injection } = options
  const features = await encodeImages(clip, dataset, injection, options)
  const captions = Array.from(features.samples, (sample) => dataset.samples[sample].captions as readonly string[])
  const texts = await encodeTexts(clip, captions.flat(), injection, options)
  return rankBothWays(features, texts, captions, clip.config.projectionDim, options)
}

function requireCaptions(dataset: Dataset): void {
  const without = dataset.samples.find(({ captions }) => captions === undefined || captions.length === 0)
  if (without) throw new CambiumError('E_DATA', `${without.id}: expected at least one caption, got none`)
  if (dataset.length === 0) throw new CambiumError('E_DATA', 'retrieval: expected at least one image, got none')
}

async function rankBothWays(
  images: ImageFeatures,
  texts: Float32Array,
  captions: readonly (readonly string[])[],
  width: number,
  { onRanks, ...options }: EncodeOptions & { onRanks?: (samples: Int32Array, ranks: Int32Array) => void },
): Promise<RetrievalResult> {
  const owners = Int32Array.from(captions.flatMap((list, image) => list.map(() => image)))
  const own: number[][] = captions.map(() => [])
  for (const [caption, image] of owners.entries()) own[image].push(caption)
  const toText = new Float64Array(captions.length)
  const toImage = new Float64Array(owners.length)
  await similarities(
    images.values,
    texts,
    width,
    (scores, first, rows) => {
      for (let row = 0; row < rows; row++) toText[first + row] = bestRank(scores, own[first + row], row * owners.length, owners.length)
    },
    options,
  )
  await similarities(
    texts,
    images.values,
    width,
    (scores, first, rows) => {
      for (let row = 0; row < rows; row++)
        toImage[first + row] = rankOf(scores, owners[first + row], row * captions.length, captions.length)
    },
    options,
  )
  onRanks?.(images.samples, Int32Array.from(toText))
  return {
    images: captions.length,
    captions: owners.length,
    imageToText: summarizeRanks(toText),
    textToImage: summarizeRanks(toImage),
    skipped: images.skipped,
  }
}
