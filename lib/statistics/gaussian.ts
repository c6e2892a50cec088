/**
 * A Gaussian over features, fitted once and factorised once; its log density tells how well a sample belongs to what it was
 * fitted to (DIKI, ECCV 2024, §3.3). Three estimates of the covariance, with S the unbiased one (divided by N − 1):
 *
 *   none          S + ridge · I, ridge 1e-7: the authors' code. For N ≤ D, S is singular and the ridge alone decides.
 *   fixed λ       (1 − λ) S + λ · tr(S)/D · I + ridge · I
 *   ledoit-wolf   (1 − λ*) E + λ* · tr(E)/D · I with E = S (N − 1)/N and λ* by Ledoit and Wolf (2004), as scikit-learn's LedoitWolf
 */
import { CambiumError } from '../errors.js'
import { native } from '../native.js'
import type { Moments } from './moments.js'

/**
 * A number in [0, 1]: fixed. 'auto': fixed at 0.1 for fewer than 2 D samples, else none. Densities of several Gaussians are compared with
 * each other, and those of one λ compare better than those of one λ* each: on eleven tasks of 240 to 500 images in 192 dimensions the right
 * one of five or six was chosen for 0.91 of the images with 0.1, for 0.84 with Ledoit–Wolf (λ* 0.02 to 0.05), for 0.83 with none.
 */
export type Shrinkage = 'auto' | 'none' | 'ledoit-wolf' | number

const FEW_SAMPLES_SHRINKAGE = 0.1

/** How the covariance is estimated. */
export interface GaussianOptions {
  /** Default 'auto'. */
  shrinkage?: Shrinkage
  /** Added to the diagonal; default 1e-7, with Ledoit–Wolf nothing. */
  ridge?: number
}

/** What a Gaussian is made of again, with its mean and covariance. */
export interface GaussianEstimate {
  /** N */
  readonly count: number
  readonly method: 'none' | 'fixed' | 'ledoit-wolf'
  /** λ */
  readonly intensity: number
  /** added to the diagonal */
  readonly ridge: number
}

/** A Gaussian over features [D], fitted to {@link Moments}: mean, covariance and its factorisation. */
export class Gaussian {
  private constructor(
    readonly estimate: GaussianEstimate,
    /** [D] */
    readonly mean: Float64Array,
    /** S, the unbiased covariance before shrinkage: its lower triangle, packed by rows */
    readonly covariance: Float64Array,
    private readonly factor: Float64Array,
    private readonly logDeterminant: number,
  ) {}

  /** D */
  get dimension(): number {
    return this.mean.length
  }

  /** of host memory */
  get bytes(): number {
    return this.mean.byteLength + this.covariance.byteLength + this.factor.byteLength
  }

  /** Estimates and factorises. @throws E_DATA without samples, E_OPTION, E_NOT_POSITIVE when the estimate is singular */
  static async fit(moments: Moments, options: GaussianOptions = {}): Promise<Gaussian> {
    const { count, mean, covariance, ledoitWolf } = await moments.covariance()
    const wanted = options.shrinkage ?? 'auto'
    const known = typeof wanted === 'number' ? wanted >= 0 && wanted <= 1 : ['auto', 'none', 'ledoit-wolf'].includes(wanted)
    if (!known) throw new CambiumError('E_OPTION', `shrinkage: expected auto, none, ledoit-wolf or a number in [0, 1], got ${wanted}`)
    const given = wanted !== 'auto' ? wanted : count < 2 * moments.dimension ? FEW_SAMPLES_SHRINKAGE : 'none'
    const method = typeof given === 'number' ? 'fixed' : given
    const intensity = typeof given === 'number' ? given : given === 'none' ? 0 : ledoitWolf
    const { ridge = method === 'ledoit-wolf' ? 0 : 1e-7 } = options
    if (!(ridge >= 0)) throw new CambiumError('E_OPTION', `ridge: expected at least 0, got ${ridge}`)
    return Gaussian.of({ count, method, intensity, ridge }, mean, covariance)
  }

  /** From what was kept of a fit; the same bits. @throws E_NOT_POSITIVE */
  static async of(estimate: GaussianEstimate, mean: Float64Array, covariance: Float64Array): Promise<Gaussian> {
    const { count, method, intensity, ridge } = estimate
    const biased = method === 'ledoit-wolf' && count > 1 ? (count - 1) / count : 1
    const [keep, shrink] = [(1 - intensity) * biased, intensity * biased]
    const { factor, logDeterminant } = await native.gaussianFactor({ covariance, dimension: mean.length, keep, shrink, ridge })
    return new Gaussian(estimate, mean, covariance, factor, logDeterminant)
  }

  /** ln N(x; μ, Σ) in nats of each row of [N, D]; a function of the row alone, to the bit. @throws E_SHAPE */
  async logDensity(rows: Float32Array): Promise<Float64Array> {
    const { mean, factor, logDeterminant, dimension } = this
    return native.logDensity({ mean, factor, logDeterminant, dimension, rows })
  }

  /** What a reader of the log should know of this estimate; undefined when there were samples enough. */
  get note(): string | undefined {
    const { count, method, intensity } = this.estimate
    const d = this.dimension
    if (method === 'none' && count <= d)
      return `${count} samples of ${d} dimensions leave the covariance singular: density is decided by the ridge; shrinkage mends it`
    if (method === 'none') return undefined
    const whose = method === 'fixed' ? '' : ' (Ledoit and Wolf)'
    const few = count < 2 * d ? ', fewer than twice as many' : ''
    return `covariance shrunk by ${Number(intensity.toPrecision(3))}${whose}: ${count} samples of ${d} dimensions${few}`
  }
}
