/**
 * What a run over a stream of tasks is told by. A[j][i] is the accuracy on the test set of task i after learning task j, both
 * from 0 of T; A[-1] is the pretrained model. Everything is a pure function of `learn.json`.
 *
 * A run that was continued without the files of earlier tasks lacks entries: a measure is taken over the tasks of which it has
 * all that it needs, and says which.
 */
import type { LearnReport } from './learn-report.js'

/** Label space: a set's own classes, or those of all tasks (class-incremental: of the tasks so far). */
export type LabelSpace = 'own' | 'union'

/** A mean over tasks, and which tasks. No value where there is none. */
export interface Measure {
  readonly value?: number
  readonly tasks: readonly number[]
}

/** rows[j + 1][i] is A[j][i]; undefined where it was not measured. */
export interface AccuracyMatrix {
  readonly rows: readonly (readonly (number | undefined)[])[]
  /** images of each task's test set */
  readonly images: readonly number[]
}

/** Measures of the continual literature, each by the paper that it is from: accuracies, and differences of them, as fractions. */
export interface LearnMetrics {
  /**
   * Zheng et al. 2023 (ZSCL), MTIL: Transfer = mean over tasks i ≥ 1 of the mean over j < i of A[j][i]: what is left of zero-shot
   * on what was not learned yet.
   */
  readonly transfer: Measure
  /** Zheng et al. 2023: mean over tasks of the mean over j of A[j][i]. */
  readonly average: Measure
  /** Zheng et al. 2023: mean over tasks of A[T−1][i]. */
  readonly last: Measure
  /**
   * Rebuffi et al. 2017 (iCaRL), as PILOT prints it: Ā, the mean over stages b of A_b, the accuracy over all test images of the
   * tasks 0 … b (weighted by images, not by tasks).
   */
  readonly incremental: Measure
  /** A_B of the last stage: accuracy over all test images of all tasks. */
  readonly lastIncremental: Measure
  /** Chaudhry et al. 2018: mean over i < T−1 of max over j < T−1 of A[j][i], less A[T−1][i]. Negative: it went on improving. */
  readonly forgetting: Measure
  /** Lopez-Paz & Ranzato 2017 (GEM): mean over i < T−1 of A[T−1][i] − A[i][i]. */
  readonly backwardTransfer: Measure
  /** Lopez-Paz & Ranzato 2017: mean over i ≥ 1 of A[i−1][i] − b_i; b_i is the pretrained model's accuracy, A[−1][i]. */
  readonly forwardTransfer: Measure
  /** The pretrained model: mean over tasks of A[−1][i]. */
  readonly zeroShot: Measure
}

/** Accuracies by stage and task. In protocols with one label space `union` is `own`. */
export function accuracyMatrix({ sets, stages, protocol }: LearnReport, space: LabelSpace = 'own'): AccuracyMatrix {
  const tests = sets.filter(({ task }) => task !== null)
  const rows = stages.map((stage) =>
    tests.map(({ name }) => {
      const found = stage.sets[name]
      return space === 'own' || protocol === 'domain-incremental' ? found?.own : found?.union
    }),
  )
  return { rows, images: tests.map(({ images }) => images) }
}

/** All measures of a run. Pure. @param among tasks that Transfer is taken over (as in {@link aboveChance}); default all */
export function learnMetrics({ rows, images }: AccuracyMatrix, among?: readonly number[]): LearnMetrics {
  const count = images.length
  const tasks = images.map((_, i) => i)
  const last = count - 1
  const at = (j: number, i: number) => rows[j + 1]?.[i]
  const over = (chosen: readonly number[], value: (i: number) => number | undefined) => meanOver(chosen, value)
  const stages = (first: number, end: number) => Array.from({ length: Math.max(0, end - first) }, (_, k) => first + k)
  const column = (i: number, first: number, end: number) => stages(first, end).map((j) => at(j, i))
  const seen = (b: number) => weighted(stages(0, b + 1).map((i) => [at(b, i), images[i]]))
  const difference = (a: number | undefined, b: number | undefined) => (a === undefined || b === undefined ? undefined : a - b)
  return {
    transfer: over(
      tasks.filter((i) => i > 0 && (among?.includes(i) ?? true)),
      (i) => mean(column(i, 0, i)),
    ),
    average: over(tasks, (i) => mean(column(i, 0, count))),
    last: over(tasks, (i) => at(last, i)),
    incremental: { value: mean(stages(0, count).map(seen)), tasks: whole(tasks, rows) },
    lastIncremental: { value: seen(last), tasks: whole(tasks, rows) },
    forgetting: over(tasks.slice(0, -1), (i) => difference(largest(column(i, 0, last)), at(last, i))),
    backwardTransfer: over(tasks.slice(0, -1), (i) => difference(at(last, i), at(i, i))),
    forwardTransfer: over(tasks.slice(1), (i) => difference(at(i - 1, i), at(-1, i))),
    zeroShot: over(tasks, (i) => at(-1, i)),
  }
}

/** Tasks whose zero-shot accuracy (own classes) is above chance, 1/C, by more than two standard errors of a guess. */
export function aboveChance({ sets, stages }: LearnReport): number[] {
  return sets.flatMap(({ name, task, classes, images }) => {
    const accuracy = stages[0]?.sets[name]?.own
    if (task === null || accuracy === undefined) return []
    const chance = 1 / classes
    return accuracy > chance + 2 * Math.sqrt((chance * (1 - chance)) / images) ? [task] : []
  })
}

/** Learned sets that a measure of a finished run leaves out, by name, and why: what its tables have to say. */
export interface LeftOut {
  /** out of Transfer: the pretrained model guesses on them */
  readonly guessed: readonly string[]
  /** out of Transfer: they came after stages that Transfer needs */
  readonly late: readonly string[]
  /** out of Avg: some stage did not look at them */
  readonly unseen: readonly string[]
}

/** Why means over tasks are not over all of them. Pure. */
export function leftOut(report: LearnReport): LeftOut {
  const among = aboveChance(report)
  const { rows } = accuracyMatrix(report)
  const tests = report.sets.filter(({ task }) => task !== null)
  const looked = (i: number, stages: number) => rows.slice(1, 1 + stages).every((row) => row[i] !== undefined)
  const names = (chosen: (i: number) => boolean) => tests.flatMap(({ name }, i) => (chosen(i) ? [name] : []))
  return {
    guessed: names((i) => i > 0 && rows[0]?.[i] !== undefined && !among.includes(i)),
    late: names((i) => i > 0 && (rows[0]?.[i] === undefined || among.includes(i)) && !looked(i, i)),
    unseen: names((i) => !looked(i, rows.length - 1)),
  }
}

function meanOver(tasks: readonly number[], value: (i: number) => number | undefined): Measure {
  const known = tasks.filter((i) => value(i) !== undefined)
  return { value: mean(known.map(value)), tasks: known }
}

/** undefined for no numbers, or where one is missing. */
function mean(values: readonly (number | undefined)[]): number | undefined {
  return weighted(values.map((value) => [value, 1]))
}

function weighted(entries: readonly (readonly [number | undefined, number])[]): number | undefined {
  let [sum, weights] = [0, 0]
  for (const [value, weight] of entries) {
    if (value === undefined) return undefined
    sum += value * weight
    weights += weight
  }
  return weights === 0 ? undefined : sum / weights
}

function largest(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined)
  return known.length === 0 ? undefined : Math.max(...known)
}

/** Tasks that were looked at wherever a measure over images needs them. */
function whole(tasks: readonly number[], rows: AccuracyMatrix['rows']): number[] {
  return tasks.filter((i) => rows.slice(i + 1).every((row) => row[i] !== undefined))
}
