/**
 * Measures of predictions, as pure functions of scores. Fractions are in [0, 1]; ranks start at 1.
 *
 * A tie is decided by the index: rank = 1 + (scores that are greater) + (equal scores at a smaller index). So a rank is
 * unique, the predicted class is the first of the greatest scores (as argmax does), and a model whose scores are all equal
 * gets what guessing gets, not full marks.
 */
import { CambiumError } from '../errors.js'

/**
 * Rank of `target` among `count` scores that start at `offset`; 1 is the greatest.
 * @throws E_NOT_FINITE for NaN, which compares with nothing (a diverged model)
 */
export function rankOf(scores: ArrayLike<number>, target: number, offset = 0, count = scores.length - offset): number {
  const own = scores[offset + target]
  let rank = 1
  for (let i = 0; i < count; i++) {
    const other = scores[offset + i]
    if (Number.isNaN(other)) throw new CambiumError('E_NOT_FINITE', `scores: expected numbers, got NaN for candidate ${i}`)
    if (other > own || (other === own && i < target)) rank++
  }
  return rank
}

/** Index of the greatest of `count` scores that start at `offset`, the first of equals. @throws E_NOT_FINITE */
export function argmax(scores: ArrayLike<number>, offset = 0, count = scores.length - offset): number {
  let best = 0
  for (let i = 0; i < count; i++) {
    const score = scores[offset + i]
    if (Number.isNaN(score)) throw new CambiumError('E_NOT_FINITE', `scores: expected numbers, got NaN for candidate ${i}`)
    if (score > scores[offset + best]) best = i
  }
  return best
}

export interface ClassAccuracy {
  readonly name: string
  /** Images of this class. */
  readonly count: number
  /** Share of them given this class; null when there are none. */
  readonly top1: number | null
  readonly top5: number | null
}

export interface ClassificationResult {
  readonly count: number
  readonly top1: number
  /** Share whose class is among the five best; 1 when there are at most five classes. */
  readonly top5: number
  /** Mean of the classes' own top-1, over classes that occur. */
  readonly meanPerClass: number
  readonly perClass: readonly ClassAccuracy[]
}

/** Counts predictions class by class. Memory C² for the confusion matrix. */
export class ClassificationCounter {
  readonly #names: readonly string[]
  readonly #confusion: Uint32Array
  readonly #top5: Uint32Array

  constructor(names: readonly string[]) {
    this.#names = names
    this.#confusion = new Uint32Array(names.length ** 2)
    this.#top5 = new Uint32Array(names.length)
  }

  /** @param scores [B, C] row-major; @param labels class of each row. @throws E_LABEL, E_SHAPE, E_NOT_FINITE */
  add(scores: ArrayLike<number>, labels: ArrayLike<number>): void {
    const classes = this.#names.length
    if (scores.length !== labels.length * classes) {
      throw new CambiumError('E_SHAPE', `scores: expected [${labels.length}, ${classes}], got ${scores.length} numbers`)
    }
    for (let row = 0; row < labels.length; row++) {
      const label = labels[row]
      if (!Number.isInteger(label) || label < 0 || label >= classes) {
        throw new CambiumError('E_LABEL', `label: expected a class below ${classes}, got ${label}`)
      }
      this.#confusion[label * classes + argmax(scores, row * classes, classes)]++
      if (rankOf(scores, label, row * classes, classes) <= 5) this.#top5[label]++
    }
  }

  /** Rows are true classes, columns predicted ones. */
  get confusion(): readonly (readonly number[])[] {
    const classes = this.#names.length
    return this.#names.map((_, row) => Array.from(this.#confusion.subarray(row * classes, (row + 1) * classes)))
  }

  /** @throws E_EMPTY when nothing was counted */
  result(): ClassificationResult {
    const counts = this.confusion.map(total)
    const hits = this.#names.map((_, i) => this.#confusion[i * this.#names.length + i])
    const count = total(counts)
    if (count === 0) throw new CambiumError('E_EMPTY', 'classification: expected at least one labelled image, got none')
    const perClass = this.#names.map((name, i) => ({
      name,
      count: counts[i],
      top1: counts[i] === 0 ? null : hits[i] / counts[i],
      top5: counts[i] === 0 ? null : this.#top5[i] / counts[i],
    }))
    const present = perClass.filter((entry) => entry.top1 !== null).map((entry) => entry.top1 as number)
    return { count, top1: total(hits) / count, top5: total(this.#top5) / count, meanPerClass: total(present) / present.length, perClass }
  }
}

export interface RankSummary {
  readonly count: number
  readonly r1: number
  readonly r5: number
  readonly r10: number
  readonly median: number
  readonly mean: number
}

/** Recall at 1, 5 and 10, median (mean of the middle two) and mean of ranks. @throws E_EMPTY */
export function summarizeRanks(ranks: ArrayLike<number>): RankSummary {
  const count = ranks.length
  if (count === 0) throw new CambiumError('E_EMPTY', 'retrieval: expected at least one query, got none')
  const sorted = Float64Array.from(ranks).sort()
  const within = (k: number) => sorted.filter((rank) => rank <= k).length / count
  const median = (sorted[Math.floor((count - 1) / 2)] + sorted[Math.floor(count / 2)]) / 2
  return { count, r1: within(1), r5: within(5), r10: within(10), median, mean: total(sorted) / count }
}

/**
 * Best (smallest) rank of several targets: for image-to-text retrieval, that of an image's captions among all captions.
 * @param targets indices of the right candidates
 */
export function bestRank(scores: ArrayLike<number>, targets: readonly number[], offset = 0, count = scores.length - offset): number {
  let best = targets[0]
  for (const target of targets) {
    const [own, other] = [scores[offset + best], scores[offset + target]]
    if (other > own || (other === own && target < best)) best = target
  }
  return rankOf(scores, best, offset, count)
}

/** Harmonic mean of two accuracies, 2ab / (a + b): base-to-novel's H. 0 when both are 0. */
export function harmonicMean(a: number, b: number): number {
  return a + b === 0 ? 0 : (2 * a * b) / (a + b)
}

/** Mean of numbers. @throws E_EMPTY */
export function mean(values: ArrayLike<number>): number {
  if (values.length === 0) throw new CambiumError('E_EMPTY', 'mean: expected at least one value, got none')
  return total(values) / values.length
}

function total(values: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]
  return sum
}
