// Zero-shot classification of a few images (Radford et al. 2021): the call that programs make.
import { Dataset } from '../data/dataset.js'
import { type ImageSource, imageName } from '../data/decode.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { classHead, DEFAULT_TEMPLATES, encodeImages, similarities } from './features.js'

export interface ClassifyOptions {
  /** prompts with one {} for the label; default `a photo of a {}.` */
  templates?: readonly string[]
  injection?: Injection
  batch?: number
  exif?: boolean
  signal?: AbortSignal
}

export interface Classification {
  readonly label: string
  /** of each label, in their order; they add up to one */
  readonly probabilities: Float32Array
}

/**
 * The most likely label of each image: softmax of exp(logit_scale) · cosine.
 * @param images paths or encoded images
 * @throws E_IMAGE for an image that cannot be decoded, E_DATA without labels, E_TEMPLATE
 */
export async function classify(
  clip: Clip,
  images: readonly ImageSource[],
  labels: readonly string[],
  options: ClassifyOptions = {},
): Promise<Classification[]> {
  if (images.length === 0) return []
  const { templates = DEFAULT_TEMPLATES, injection, ...rest } = options
  const data = new Dataset(images.map((image, i) => ({ id: `${i} ${imageName(image)}`, image })))
  const head = await classHead(clip, labels, templates, injection, rest)
  const { values } = await encodeImages(clip, data, injection, rest)
  const scale = Math.exp(await clip.logitScale.item())
  const out: Classification[] = []
  await similarities(values, head, clip.config.projectionDim, (scores, _, rows) => {
    for (let row = 0; row < rows; row++) out.push(softmax(scores.subarray(row * labels.length, (row + 1) * labels.length), scale, labels))
  })
  return out
}

function softmax(cosines: Float32Array, scale: number, labels: readonly string[]): Classification {
  const best = cosines.reduce((most, value, i) => (value > cosines[most] ? i : most), 0)
  const weights = cosines.map((value) => Math.exp(scale * (value - cosines[best])))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return { label: labels[best], probabilities: weights.map((weight) => weight / total) }
}
