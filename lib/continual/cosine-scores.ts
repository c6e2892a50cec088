// Scores of a set's images for classes that are told by prompts: what every method without a selector evaluates with.
import type { Dataset } from '../data/dataset.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { type EncodeOptions, encodeImages, encodeTexts, type ScoreVisitor, similarities } from '../train/features.js'
import type { ClassPrompts, Scored } from './learner.js'

/**
 * Cosines of every image with every class, with a model and an injection as they are now.
 * @param visit told of scores [rows, C] in blocks of whole rows
 */
export async function cosineScores(
  clip: Clip,
  injection: Injection | undefined,
  data: Dataset,
  classes: readonly ClassPrompts[],
  visit: ScoreVisitor,
  options: EncodeOptions = {},
): Promise<Scored> {
  const head = await promptHead(clip, classes, injection, options)
  const { values, samples, skipped } = await encodeImages(clip, data, injection, options)
  await similarities(values, head, clip.config.projectionDim, visit, options)
  return { samples, skipped }
}

/**
 * The zero-shot classifier of Radford et al. (2021) for classes with prompts of their own, in any number.
 * @returns [C, P], each row of length 1
 */
export async function promptHead(
  clip: Clip,
  classes: readonly ClassPrompts[],
  injection?: Injection,
  options: EncodeOptions = {},
): Promise<Float32Array> {
  const texts = [...new Set(classes.flatMap(({ prompts }) => prompts))]
  const rows = new Map(texts.map((text, row) => [text, row]))
  const features = await encodeTexts(clip, texts, injection, options)
  const width = clip.config.projectionDim
  const head = new Float32Array(classes.length * width)
  for (const [c, { prompts }] of classes.entries()) {
    const sum = new Float64Array(width)
    for (const text of prompts) {
      const at = (rows.get(text) ?? 0) * width
      for (let d = 0; d < width; d++) sum[d] += features[at + d]
    }
    const length = Math.hypot(...sum)
    for (let d = 0; d < width; d++) head[c * width + d] = sum[d] / length
  }
  return head
}
