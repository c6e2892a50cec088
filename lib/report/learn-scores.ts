/** The measures of every method in one table, and what they mean. */
import type { LearnReport } from '../continual/learn-report.js'
import { type LabelSpace, type LearnMetrics, leftOut } from '../continual/metrics.js'
import { marker } from './learn-curves.js'
import {
  clearlyBest,
  found,
  isRival,
  type LearnMethod,
  type LearnSet,
  metricsOf,
  type Spread,
  spreadCell,
  spreadOf,
} from './learn-methods.js'
import { html, list, type Markup, name, shorten, table } from './markup.js'
import { mean, points } from './numbers.js'

interface Column {
  readonly head: string
  readonly sign: 1 | -1
  readonly value: (metrics: LearnMetrics) => number | undefined
  /** A difference, told with its sign. */
  readonly difference?: boolean
}

const COLUMNS: readonly Column[] = [
  { head: 'Transfer', sign: 1, value: ({ transfer }) => transfer.value },
  { head: 'Avg', sign: 1, value: ({ average }) => average.value },
  { head: 'Last', sign: 1, value: ({ last }) => last.value },
  { head: 'Forgetting', sign: -1, value: ({ forgetting }) => forgetting.value, difference: true },
  { head: 'Backward', sign: 1, value: ({ backwardTransfer }) => backwardTransfer.value, difference: true },
  { head: 'Forward', sign: 1, value: ({ forwardTransfer }) => forwardTransfer.value, difference: true },
]

const isBound = ({ method }: LearnMethod): boolean => method === 'joint'

/** @param among tasks of Transfer @param watched sets that pretraining knew: their mean at the end is a column */
export function scoreTable(
  methods: readonly LearnMethod[],
  space: LabelSpace,
  among: readonly number[] | undefined,
  watched: readonly LearnSet[] = [],
): Markup {
  const measured = methods.map((method) => metricsOf(method, space, among))
  const columns = COLUMNS.map((column) => ({ ...column, cells: measured.map((seeds) => spreadOf(seeds.map(column.value))) }))
  const knew =
    watched.length === 0
      ? []
      : [{ head: 'Knew before', sign: 1 as const, difference: false, cells: methods.map((method) => kept(method, watched)) }]
  const all = [...columns.slice(0, 3), ...knew, ...columns.slice(3)].filter(({ cells }) => cells.some((cell) => cell !== undefined))
  const best = all.map(({ cells, sign }) =>
    clearlyBest(
      cells.map((cell, i) => (isRival(methods[i]) ? cell : undefined)),
      sign,
    ),
  )
  const rows = methods.map((method, row) => [
    html`${marker(method.place)} ${name(shorten(method.label, 28))}${isBound(method) && html` <small>upper bound</small>`}`,
    ...all.map(({ cells, difference }, column) => {
      const text = spreadCell(cells[row], difference === true ? points : undefined)
      return best[column] === row ? html`<strong>${text}</strong>` : text
    }),
  ])
  return table(['Method', ...all.map(({ head }) => head)], rows)
}

/** Mean over the watched sets at the last stage of each seed. */
export function kept(method: LearnMethod, watched: readonly LearnSet[]): Spread | undefined {
  const last = (seed: number) => method.runs[seed].stages.length - 1
  const of = method.runs.map((_, seed) => watched.map(({ index }) => found(method, last(seed), index)[seed]?.own))
  return spreadOf(of.map((values) => (values.some((value) => value === undefined) ? undefined : mean(values as number[]))))
}

/** Which sets the means are not over, and why. */
export function leftOutNote(run: LearnReport): Markup {
  const { guessed, late, unseen } = leftOut(run)
  const named = (sets: readonly string[]) => list(sets.map((set) => name(shorten(set, 30))))
  const why = [
    guessed.length > 0 && html`${named(guessed)}, where the pretrained model is not above chance by two standard errors`,
    late.length > 0 && html`${named(late)}, which came with a later day`,
  ].filter((part) => part !== false)
  const average = unseen.length > 0 && html` Avg is without ${named(unseen)}, which some stages did not look at.`
  if (why.length === 0) return html`Transfer counts every set but the first.${average}`
  return html`Transfer counts every set but the first and ${list(why)}.${average}`
}
