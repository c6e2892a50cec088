/** Runs over one stream of tasks as the report compares them: methods, each with its seeds; means and spreads over seeds. */
import type { LearnReport, SetAccuracy } from '../continual/learn-report.js'
import { accuracyMatrix, type LabelSpace, type LearnMetrics, learnMetrics } from '../continual/metrics.js'
import { type Content, html } from './markup.js'
import { percent } from './numbers.js'

/** One method with a run for each seed. */
export interface LearnMethod {
  readonly label: string
  readonly method: string
  readonly runs: readonly LearnReport[]
  /** Place among the methods: its colour and its mark in every chart. */
  readonly place: number
}

/** Of the seeds that have the value; `sd` is that of a sample (n − 1), absent for less than two. */
export interface Spread {
  readonly mean: number
  readonly sd?: number
  readonly count: number
}

/** By label, in the order in which they come; seeds in theirs. Places count from the method that the page is about. */
export function methodsOf(runs: readonly LearnReport[]): LearnMethod[] {
  const labels = [...new Set(runs.map(({ label }) => label))]
  const methods = labels.map((label) => {
    const own = runs.filter((run) => run.label === label).sort((a, b) => a.seed - b.seed)
    return { label, method: own[0].method, runs: own }
  })
  const first = methods.indexOf(focus(methods))
  return methods.map((method, i) => ({ ...method, place: i === first ? 0 : i < first ? i + 1 : i }))
}

/** Joint training has all the data at once: an upper bound. It and zero-shot, which learns nothing, are no rivals. */
export const isRival = ({ method }: { readonly method: string }): boolean => method !== 'joint' && method !== 'zero-shot'

/** The method that the page is about: DIKI where it is there, else the first that learns task by task. */
export function focus<M extends { readonly method: string }>(methods: readonly M[]): M {
  return methods.find(({ method }) => method === 'diki') ?? methods.find(isRival) ?? methods[0]
}

export function spreadOf(values: readonly (number | undefined)[]): Spread | undefined {
  const known = values.filter((value) => value !== undefined && Number.isFinite(value)) as number[]
  if (known.length === 0) return undefined
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length
  const squares = known.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, count: known.length, ...(known.length > 1 ? { sd: Math.sqrt(squares / (known.length - 1)) } : {}) }
}

/** What was found on a set at a stage, seed by seed; sets by place, for an order of classes may be a seed's own. */
export function found({ runs }: LearnMethod, stage: number, set: number): (SetAccuracy | undefined)[] {
  return runs.map(({ stages, sets }) => (sets[set] === undefined ? undefined : stages[stage]?.sets[sets[set].name]))
}

/** Accuracy among a set's own classes. */
export const accuracy = (method: LearnMethod, stage: number, set: number): Spread | undefined =>
  spreadOf(found(method, stage, set).map((entry) => entry?.own))

/** Measures of each seed. @param among tasks that Transfer is taken over */
export const metricsOf = ({ runs }: LearnMethod, space: LabelSpace, among?: readonly number[]): LearnMetrics[] =>
  runs.map((run) => learnMetrics(accuracyMatrix(run, space), among))

export interface LearnSet {
  /** As it is called, or its number where seeds call it by different names. */
  readonly name: string
  /** Place among `sets` of a run. */
  readonly index: number
  /** null: not learned, looked at after every task */
  readonly task: number | null
  readonly classes: number
  readonly images: number
}

export function setsOf(methods: readonly LearnMethod[]): LearnSet[] {
  const runs = methods.flatMap((method) => method.runs)
  const longest = runs.reduce((most, run) => (run.sets.length > most.sets.length ? run : most))
  return longest.sets.map(({ name, task, classes, images }, index) => {
    const same = runs.every(({ sets }) => sets[index] === undefined || sets[index].name === name)
    return { name: same || task === null ? name : `task ${task + 1}`, index, task, classes, images }
  })
}

/** Stages that any run has: the pretrained model and one after each task. */
export const stageCount = (methods: readonly LearnMethod[]): number =>
  Math.max(...methods.flatMap(({ runs }) => runs.map(({ stages }) => stages.length)))

/** `71.2 ± 0.4` in percent. */
export const percents = (spread: Spread | undefined): string =>
  spread === undefined ? '–' : `${percent(spread.mean)}${spread.sd === undefined ? '' : ` ± ${percent(spread.sd)}`}`

/** The same for a cell of a table, the deviation below the mean. @param told how a fraction is printed */
export const spreadCell = (spread: Spread | undefined, told = percent): Content =>
  spread === undefined ? '–' : html`${told(spread.mean)}${spread.sd !== undefined && html`<small>± ${percent(spread.sd)}</small>`}`

/**
 * The one that is ahead by more than its own and the next one's standard deviations over seeds together; undefined where none is,
 * or where one of the two has a single seed.
 * @param sign 1 where more is better, −1 where less is
 */
export function clearlyBest(spreads: readonly (Spread | undefined)[], sign: 1 | -1 = 1): number | undefined {
  const order = spreads
    .flatMap((spread, index) => (spread === undefined ? [] : [{ ...spread, index }]))
    .sort((a, b) => sign * (b.mean - a.mean))
  const [first, second] = order
  if (first?.sd === undefined || second?.sd === undefined) return undefined
  return sign * (first.mean - second.mean) > first.sd + second.sd ? first.index : undefined
}
