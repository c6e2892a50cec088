/** What `cambium learn` prints: a row a method, the papers' measures and every watched set, mean ± standard deviation over seeds. */
import type { LearnReport } from '../continual/learn-report.js'
import { aboveChance, accuracyMatrix, learnMetrics, leftOut } from '../continual/metrics.js'
import { formatTable, percent } from './table.js'

export function learnTable(runs: readonly LearnReport[]): string {
  if (runs.length === 0) return 'no runs'
  const labels = [...new Set(runs.map(({ label }) => label))]
  const watched = runs[0].sets.filter(({ task }) => task === null).map(({ name }) => name)
  const among = aboveChance(runs[0])
  const columns: readonly (readonly [string, (run: LearnReport) => number | undefined])[] = [
    ['Transfer', (run) => learnMetrics(accuracyMatrix(run), among).transfer.value],
    ['Avg', (run) => learnMetrics(accuracyMatrix(run)).average.value],
    ['Last', (run) => learnMetrics(accuracyMatrix(run)).last.value],
    ['Last, all classes', (run) => learnMetrics(accuracyMatrix(run, 'union')).last.value],
    ['forgetting', (run) => learnMetrics(accuracyMatrix(run)).forgetting.value],
    ...watched.map((name) => [name, (run: LearnReport) => run.stages.at(-1)?.sets[name]?.own] as const),
  ]
  const rows = labels.map((label) => {
    const own = runs.filter((run) => run.label === label)
    return [label, ...columns.map(([, value]) => spread(own.map(value)))]
  })
  return `${formatTable([['%', ...columns.map(([head]) => head)], ...rows])}\n${['Transfer, Avg, Last: Zheng et al. 2023', ...without(runs[0])].join('; ')}`
}

/** What the means are not over, and why. */
function without(run: LearnReport): string[] {
  const { guessed, late, unseen } = leftOut(run)
  const why = [
    ...(guessed.length > 0 ? [`${guessed.join(', ')}, where zero-shot is not above chance`] : []),
    ...(late.length > 0 ? [`${late.join(', ')}, which came later`] : []),
  ]
  return [
    ...(why.length > 0 ? [`Transfer without ${why.join(', and without ')}`] : []),
    ...(unseen.length > 0 ? [`Avg without ${unseen.join(', ')}, which some stages did not look at`] : []),
  ]
}

function spread(values: readonly (number | undefined)[]): string {
  const known = values.filter((value) => value !== undefined)
  if (known.length === 0) return '–'
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length
  if (known.length === 1) return percent(mean)
  const variance = known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (known.length - 1)
  return `${percent(mean)} ± ${percent(Math.sqrt(variance))}`
}
