/**
 * From a log density s (nats) in D dimensions to a weight: w = σ(slope · (s/D − offset)).
 *
 * The authors of DIKI (ECCV 2024) have slope 1 and offset 1 with D = 512; the paper says only "sigmoid of the score". Densities per
 * dimension depend on D, on the spectrum of the features and on shrinkage, so elsewhere those numbers mean something else: `fitted`
 * takes them from what a task's own images are like. Held-out densities (each training image under a Gaussian fitted without it)
 * decide: their median is given the weight `typical`, their `quantile` a half. No validation or test image takes part.
 */
import { createHash } from 'node:crypto'
import { Gaussian, type GaussianOptions } from './gaussian.js'
import { Moments } from './moments.js'

/** From a log density s (nats) in D dimensions to a weight: σ(slope · (s/D − offset)). */
export interface Calibration {
  readonly slope: number
  readonly offset: number
}

export const PAPER_CALIBRATION: Calibration = { slope: 1, offset: 1 }

export interface CalibrationOptions {
  /** weight of the median held-out image; default 0.8 */
  typical?: number
  /** share of held-out images that are given less than a half; default 0.3 */
  quantile?: number
}

/** σ(slope · (s/D − offset)). */
export function weightOf(density: number, dimension: number, { slope, offset }: Calibration): number {
  return 1 / (1 + Math.exp(-slope * (density / dimension - offset)))
}

/** @param held log densities of samples that the Gaussian has not seen; at least one */
export function fitCalibration(held: Float64Array, dimension: number, options: CalibrationOptions = {}): Calibration {
  const { typical = 0.8, quantile = 0.3 } = options
  const sorted = held.map((density) => density / dimension).sort()
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]
  const [offset, median] = [at(quantile), at(0.5)]
  const spread = Math.max(median - offset, 1e-6) // of samples that are all alike
  return { slope: Math.log(typical / (1 - typical)) / spread, offset }
}

/** A fold in [0, count) for each sample, of equal sizes, by digests of the ids: no order of samples changes it. */
export function foldsOf(ids: readonly string[], count = 5): Int32Array {
  const digests = ids.map((id, index) => ({ index, digest: createHash('sha256').update(id).digest('hex') }))
  digests.sort((a, b) => (a.digest < b.digest ? -1 : a.digest > b.digest ? 1 : a.index - b.index))
  const folds = new Int32Array(ids.length)
  for (const [place, { index }] of digests.entries()) folds[index] = place % count
  return folds
}

/**
 * The log density of each row under a Gaussian fitted to the rows of the other folds: [N], fold by fold.
 * @param rows f32 [N, D]; at least one row in each of two folds
 */
export async function heldOutDensities(
  rows: Float32Array,
  dimension: number,
  folds: Int32Array,
  options: GaussianOptions = {},
): Promise<Float64Array> {
  const names = [...new Set(folds)].sort((a, b) => a - b)
  const parts = names.map((fold) => {
    const indices = [...folds.keys()].filter((index) => folds[index] === fold)
    const part = new Float32Array(indices.length * dimension)
    for (const [place, index] of indices.entries()) part.set(rows.subarray(index * dimension, (index + 1) * dimension), place * dimension)
    return part
  })
  const held = new Float64Array(folds.length)
  let filled = 0
  for (const part of parts) {
    const moments = new Moments(dimension)
    for (const other of parts) if (other !== part) await moments.add(other)
    held.set(await (await Gaussian.fit(moments, options)).logDensity(part), filled)
    filled += part.length / dimension
  }
  return held
}
