// Base-to-novel: what training on half of the classes does to the other half.
import type { Dataset } from '../data/dataset.js'
import { selectClasses } from '../data/splits.js'
import type { EvaluationSet } from '../train/evaluate.js'
import { harmonicMean, mean } from '../train/metrics.js'
import { shotsTask } from './few-shot.js'
import { meanOf, percents } from './measures.js'
import type { OpenDatasets, Protocol, Row, Table, Task } from './protocol.js'

/** The first half of the classes, rounded up, trains (base); the rest is novel: CoCoOp (Zhou et al. 2022), whose code this follows. */
export function splitClasses(classes: number): { base: number[]; novel: number[] } {
  const first = Math.ceil(classes / 2)
  const all = Array.from({ length: classes }, (_, label) => label)
  return { base: all.slice(0, first), novel: all.slice(first) }
}

/** The two halves of a test set, the same objects for every seed, so that their images are decoded once. */
const halves = new WeakMap<Dataset, EvaluationSet[]>()

function halvesOf(test: Dataset): EvaluationSet[] {
  const { base, novel } = splitClasses(test.classNames.length)
  const known = halves.get(test) ?? [
    { name: 'base', data: selectClasses(test, base) },
    { name: 'novel', data: selectClasses(test, novel) },
  ]
  halves.set(test, known)
  return known
}

function taskOf(dataset: OpenDatasets['datasets'][number], ood: OpenDatasets['ood'], shots: number, seed: number): Task {
  const { base } = splitClasses(dataset.test.classNames.length)
  const train = selectClasses(dataset.train, base)
  const validation = dataset.validation && selectClasses(dataset.validation, base)
  return shotsTask({ ...dataset, train, validation }, shots, seed, [...halvesOf(dataset.test), ...ood])
}

/** H of the means over the seeds, as the papers' tables have it. */
function harmonic(row: Row, tasks: readonly Task[]): string {
  const of = (measure: string) =>
    meanOf(
      row,
      tasks.map((task) => [task, measure]),
    )
  const [base, novel] = [of('base'), of('novel')]
  return base.length === 0 ? '–' : percents([harmonicMean(mean(base), mean(novel))])
}

function columns(name: string, tasks: readonly Task[], ood: OpenDatasets['ood']): Table['columns'] {
  const measure = (what: string) => (row: Row) =>
    percents(
      meanOf(
        row,
        tasks.map((task) => [task, what]),
      ),
    )
  return [
    { head: `${name} base`, value: measure('base') },
    { head: 'novel', value: measure('novel') },
    { head: 'H', value: (row) => harmonic(row, tasks) },
    ...ood.map((set) => ({ head: set.name, value: measure(set.name) })),
  ]
}

export const baseToNovel: Protocol = {
  name: 'base-to-novel',
  about:
    'Half of the classes train; both halves are classified among their own names; H = 2bn / (b + n) of the means (CoCoOp, Zhou et al. 2022; R-Adapter, §4).',
  shots: [16],
  tasks: ({ datasets, ood }, shots = 16, seed) => datasets.map((dataset) => taskOf(dataset, ood, shots, seed)),
  tables: (tasks, { ood }) => {
    const all = [...new Set(tasks.map(({ shots }) => shots))]
    return all.map((shots) => {
      const these = tasks.filter((task) => task.shots === shots)
      const average = these.length > 1 ? columns('average', these, ood) : []
      return { title: `${shots} shots`, columns: [...these.flatMap((task) => columns(task.dataset, [task], ood)), ...average] }
    })
  },
}
