/**
 * The α of an adapted model: W_ens = W_org(αW̃ + I) needs no training again, so every α can be tried. It is chosen on
 * validation alone; test and out-of-distribution sets are evaluated at every α for the record and choose nothing.
 */
import { CambiumError } from '../errors.js'
import type { Method } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import type { Tensor } from '../tensor.js'
import { type EvaluateOptions, type Evaluation, type EvaluationSet, evaluate, scoreOf } from './evaluate.js'
import { DecodedImages } from './features.js'

/** 0, 0.1, …, 1: zero-shot to the adapter in full. */
export const DEFAULT_ALPHAS: readonly number[] = Array.from({ length: 11 }, (_, i) => i / 10)

/** The α that was taken, its score on validation, and those of all that were tried. */
export interface Choice {
  readonly alpha: number
  readonly score: number
  /** In the order of the α given. */
  readonly tried: readonly { readonly alpha: number; readonly score: number }[]
}

/**
 * The α with the best score. Of equals the smallest: where validation cannot tell two models apart, the one nearer to the
 * pretrained model is kept.
 * @param evaluateValidation score on the validation split, larger is better
 * @throws E_OPTION for no α, E_NOT_FINITE for a score that is no number
 */
export async function chooseAlpha(
  alphas: readonly number[],
  evaluateValidation: (alpha: number) => number | Promise<number>,
): Promise<Choice> {
  if (alphas.length === 0) throw new CambiumError('E_OPTION', 'alphas: expected at least one, got none')
  const tried: { alpha: number; score: number }[] = []
  for (const alpha of alphas) {
    const score = await evaluateValidation(alpha)
    if (Number.isNaN(score)) throw new CambiumError('E_NOT_FINITE', `score at alpha ${alpha}: expected a number, got NaN`)
    tried.push({ alpha, score })
  }
  const best = tried.reduce((a, b) => (b.score > a.score || (b.score === a.score && b.alpha < a.alpha) ? b : a))
  return { ...best, tried }
}

/** What can be evaluated at any α: every method is. */
export type Scalable = Pick<Method, 'at'>

/** What a method is worth at an α. */
export interface SweepPoint {
  readonly alpha: number
  readonly evaluation: Evaluation
}

export interface SweepOptions extends EvaluateOptions {
  /** Running averages of the method's parameters, in their place. */
  averages?: ReadonlyMap<string, Tensor>
  /** Told before each α. */
  onAlpha?: (alpha: number) => void
}

/** Evaluates a method over sets at several α, one after the other; each image is decoded once. */
export async function evaluateAlphas(
  clip: Clip,
  method: Scalable,
  alphas: readonly number[],
  sets: readonly EvaluationSet[],
  options: SweepOptions = {},
): Promise<SweepPoint[]> {
  const decoded = options.decoded ?? new DecodedImages()
  const points: SweepPoint[] = []
  for (const alpha of alphas) {
    options.onAlpha?.(alpha)
    const view = await method.at(alpha, options.averages)
    try {
      points.push({ alpha, evaluation: await evaluate(clip, sets, { ...options, decoded, injection: view }) })
    } finally {
      await view.dispose()
    }
  }
  return points
}

/** Chooses α by the score on a validation set: top-1, or the mean of both ways' R@1. */
export async function chooseAlphaOn(
  clip: Clip,
  method: Scalable,
  validation: EvaluationSet,
  options: SweepOptions & { alphas?: readonly number[] } = {},
): Promise<Choice> {
  const { alphas = DEFAULT_ALPHAS } = options
  const decoded = options.decoded ?? new DecodedImages()
  return chooseAlpha(alphas, async (alpha) => {
    const [{ evaluation }] = await evaluateAlphas(clip, method, [alpha], [validation], { ...options, decoded })
    return scoreOf(evaluation[validation.name])
  })
}
