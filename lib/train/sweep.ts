/**
 * The α of an adapted model: W_ens = W_org(αW̃ + I) needs no training again, so every α can be tried. It is chosen on
 * validation alone; test and out-of-distribution sets are evaluated at every α for the record and choose nothing.
 */
import { CambiumError } from '../errors.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { type EvaluateOptions, type Evaluation, type EvaluationSet, evaluateAt, scoreOf } from './evaluate.js'

/** 0, 0.1, …, 1: zero-shot to the adapter in full. */
export const DEFAULT_ALPHAS: readonly number[] = Array.from({ length: 11 }, (_, i) => i / 10)

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

/** An adapter that can be looked at with any α, such as RAdapter. */
export interface Scalable {
  at(alpha: number): Injection & { dispose?(): void }
}

export interface Sweep {
  /** Chosen on validation; absent when there was no validation set. */
  readonly chosen?: Choice
  readonly points: readonly { readonly alpha: number; readonly evaluation: Evaluation }[]
}

/** Evaluates an adapter at several α over sets; `validation`, if given, is one more set and chooses. */
export async function sweepAlpha(
  clip: Clip,
  adapter: Scalable,
  sets: readonly EvaluationSet[],
  options: EvaluateOptions & { alphas?: readonly number[]; validation?: EvaluationSet } = {},
): Promise<Sweep> {
  const { alphas = DEFAULT_ALPHAS, validation } = options
  const views: ReturnType<Scalable['at']>[] = []
  try {
    for (const alpha of alphas) views.push(adapter.at(alpha))
    const all = validation === undefined ? sets : [validation, ...sets]
    const points = (await evaluateAt(clip, all, views, options)).map((evaluation, i) => ({ alpha: alphas[i], evaluation }))
    if (validation === undefined) return { points }
    const score = (alpha: number) => scoreOf(points[alphas.indexOf(alpha)].evaluation[validation.name])
    return { chosen: await chooseAlpha(alphas, score), points }
  } finally {
    for (const view of views) view.dispose?.()
  }
}
