/**
 * What a task is known by at test time: a Gaussian of the frozen features of its training images, and how its density becomes a weight.
 * Both come from training images alone and are kept without them.
 */
import { type Calibration, fitCalibration, foldsOf, heldOutDensities, PAPER_CALIBRATION } from '../statistics/calibration.js'
import { Gaussian, type GaussianOptions, type Shrinkage } from '../statistics/gaussian.js'
import { Moments } from '../statistics/moments.js'

/** The Gaussian of a task's frozen features, and the weight that a density stands for (DIKI, ECCV 2024, §3.3). */
export interface TaskDensity {
  readonly gaussian: Gaussian
  readonly calibration: Calibration
}

/** How a task's Gaussian is estimated, and how its density becomes a weight. */
export interface DensityOptions {
  readonly shrinkage: Shrinkage
  /** added to the diagonal of the covariance */
  readonly ridge?: number
  /** 'auto': the paper's where its numbers hold (512 dimensions or more, nothing shrunk), else fitted; see statistics/calibration.ts */
  readonly calibration: 'auto' | 'paper' | 'fitted'
  /** weight of the median held-out image */
  readonly typical: number
  /** share of held-out images that are given less than a half */
  readonly quantile: number
}

/**
 * What a task is known by, from the frozen features of its training images alone.
 * @param rows f32 [N, D], normalised; @param ids of the images
 * @param note told what was decided and why
 */
export async function fitDensity(
  rows: Float32Array,
  dimension: number,
  ids: readonly string[],
  options: DensityOptions,
  note: (text: string) => void,
): Promise<TaskDensity> {
  const moments = new Moments(dimension)
  await moments.add(rows)
  const estimator: GaussianOptions = { shrinkage: options.shrinkage, ridge: options.ridge }
  const gaussian = await Gaussian.fit(moments, estimator)
  if (gaussian.note) note(gaussian.note)
  const shrunk = gaussian.estimate.method !== 'none'
  const paper = options.calibration === 'paper' || (options.calibration === 'auto' && dimension >= 512 && !shrunk)
  if (paper || ids.length < 2) return { gaussian, calibration: PAPER_CALIBRATION }
  // Folds are shrunk by the rule that the whole was, however few they are.
  const rule = options.shrinkage === 'auto' ? { ...estimator, shrinkage: gaussian.estimate.intensity || ('none' as const) } : estimator
  const held = await heldOutDensities(rows, dimension, foldsOf(ids), rule)
  const calibration = fitCalibration(held, dimension, options)
  note(reasonOf(calibration, options, dimension, shrunk))
  return { gaussian, calibration }
}

function reasonOf(
  { slope, offset }: Calibration,
  { calibration, typical, quantile }: DensityOptions,
  dimension: number,
  shrunk: boolean,
): string {
  const why = calibration === 'fitted' ? '' : shrunk ? ', because of shrinkage' : `, because of ${dimension} dimensions`
  return (
    `weight σ(${slope.toPrecision(3)} (s/${dimension} − ${offset.toPrecision(3)})) fitted on held-out training images${why}: ` +
    `their median gets ${typical}, their ${quantile} quantile a half`
  )
}
