// Few-shot: accuracy by the number of images of each class that train. Other protocols draw their images by it too.
import type { Dataset } from '../data/dataset.js'
import { fewShotWithValidation } from '../data/splits.js'
import type { EvaluationSet } from '../train/evaluate.js'
import { percents } from './measures.js'
import type { OpenDatasets, Protocol, Row, Task } from './protocol.js'

/** Images of each class that choose settings, as in CoOp (Zhou et al. 2022): as many as train, at most 4. */
const validationShots = (shots: number): number => Math.min(shots, 4)

/** The images that train and those that choose: drawn by the seed, the second from a set of their own if there is one. */
export function drawShots({ train, validation }: OpenDatasets['datasets'][number], shots: number, seed: number) {
  if (validation === undefined) return fewShotWithValidation(train, shots, validationShots(shots), seed)
  const drawn = fewShotWithValidation(train, shots, 0, seed)
  return { train: drawn.train, validation: fewShotWithValidation(validation, validationShots(shots), 0, seed).train }
}

export const validationSet = (data: Dataset) => ({ name: 'validation', data })

/** A task of some shots of a dataset, or of some of its classes. */
export function shotsTask(dataset: OpenDatasets['datasets'][number], shots: number, seed: number, tests: readonly EvaluationSet[]): Task {
  const { name } = dataset
  const { train, validation } = drawShots(dataset, shots, seed)
  return { name: `${name}, ${shots} shots`, dataset: name, shots, seed, train, validation: validationSet(validation), tests }
}

export const fewShot: Protocol = {
  name: 'few-shot',
  about: 'k images of each class train; the whole test set and other domains are looked at (CoOp, Zhou et al. 2022; R-Adapter, §4).',
  shots: [1, 2, 4, 8, 16],
  tasks: ({ datasets, ood }, shots = 16, seed) =>
    datasets.map((dataset) => shotsTask(dataset, shots, seed, [{ name: dataset.name, data: dataset.test }, ...ood])),
  tables: (tasks, { datasets, ood }) =>
    datasets.map(({ name }) => ({
      title: name,
      columns: tasks
        .filter(({ dataset }) => dataset === name)
        .flatMap((task) => {
          const test = {
            head: task.shots === 1 ? '1 shot' : `${task.shots} shots`,
            value: (row: Row) => percents(row.scores(task, name)),
          }
          const others = ood.map((set) => ({
            head: `${set.name} (${task.shots})`,
            value: (row: Row) => percents(row.scores(task, set.name)),
          }))
          return [test, ...others]
        }),
    })),
}
