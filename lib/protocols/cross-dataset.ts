// Cross-dataset: what training on one dataset does to the others.
import { splitDataset } from '../data/splits.js'
import { drawShots, validationSet } from './few-shot.js'
import { meanOf, percents } from './measures.js'
import type { OpenDatasets, Protocol, Row, Task } from './protocol.js'

/** Share of a training set that chooses settings where no shots are drawn and no validation set is given. */
const VALIDATION_SHARE = 0.1

/** All images, or some of each class, of a dataset. */
export function drawAll(dataset: OpenDatasets['datasets'][number], shots: number | undefined, seed: number) {
  if (shots !== undefined) return drawShots(dataset, shots, seed)
  const { train, validation } = dataset
  return validation === undefined ? splitDataset(train, VALIDATION_SHARE, seed) : { train, validation }
}

export const crossDataset: Protocol = {
  name: 'cross-dataset',
  about: 'One dataset trains; the others are classified zero-shot, each among its own names (CoCoOp, Zhou et al. 2022; R-Adapter, §4).',
  shots: [undefined],
  tasks: ({ datasets, ood }, shots, seed) => {
    const [source] = datasets
    const { train, validation } = drawAll(source, shots, seed)
    const tests = [...datasets.map(({ name, test }) => ({ name, data: test })), ...ood]
    const name = shots === undefined ? source.name : `${source.name}, ${shots} shots`
    return [{ name, dataset: source.name, shots, seed, train, validation: validationSet(validation), tests }]
  },
  tables: (tasks, { datasets, ood }) =>
    tasks.map((task) => {
      const [source, ...targets] = datasets.map(({ name }) => name)
      const column = (name: string, head = name) => ({ head, value: (row: Row) => percents(row.scores(task, name)) })
      const average = (row: Row) =>
        percents(
          meanOf(
            row,
            targets.map((name): readonly [Task, string] => [task, name]),
          ),
        )
      return {
        title: `trained on ${task.name}`,
        columns: [
          column(source, `${source} (source)`),
          ...targets.map((name) => column(name)),
          ...(targets.length > 1 ? [{ head: 'average of targets', value: average }] : []),
          ...ood.map(({ name }) => column(name)),
        ],
      }
    }),
}
