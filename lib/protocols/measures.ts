// The numbers of an evaluation by name, and how several seeds of one are printed.
import type { Evaluation } from '../train/evaluate.js'
import { mean } from '../train/metrics.js'
import type { Row, Task } from './protocol.js'

/** Top-1 under the name of its set; of a captioned set, ranks both ways under `NAME i→t R@1` and so on. */
export function measuresOf(evaluation: Evaluation): Record<string, number> {
  const measures: Record<string, number> = {}
  for (const [set, result] of Object.entries(evaluation)) {
    if (result.task === 'classification') {
      measures[set] = result.top1
      continue
    }
    for (const [way, ranks] of [
      ['i→t', result.imageToText],
      ['t→i', result.textToImage],
    ] as const) {
      for (const [what, value] of Object.entries(RANKS)) measures[`${set} ${way} ${what}`] = ranks[value]
    }
  }
  return measures
}

/** What is reported of ranks, and where it stands in a RankSummary. */
export const RANKS = { 'R@1': 'r1', 'R@5': 'r5', 'R@10': 'r10', median: 'median', mean: 'mean' } as const

/** Mean ± standard deviation of a sample (n − 1) in percent; one number alone; a dash for none. */
export function percents(values: readonly number[]): string {
  return spread(values.map((value) => 100 * value))
}

/** The same without the factor: ranks. */
export function spread(values: readonly number[]): string {
  if (values.length === 0) return '–'
  const middle = mean(values)
  if (values.length === 1) return middle.toFixed(1)
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1))
  return `${middle.toFixed(1)} ± ${deviation.toFixed(1)}`
}

/** Seed by seed, the mean of several measures on their tasks. */
export function meanOf(row: Row, of: readonly (readonly [Task, string])[]): number[] {
  const all = of.map(([task, measure]) => row.scores(task, measure))
  const seeds = Math.min(...all.map((scores) => scores.length))
  return Array.from({ length: Number.isFinite(seeds) ? seeds : 0 }, (_, i) => mean(all.map((scores) => scores[i])))
}
