import type { Dataset } from '../data/dataset.js'
import { fewShotWithValidation } from '../data/splits.js'
import { type meanOf, percents } from './measures.js'
import type { OpenDatasets, Protocol, Task } from './protocol.js'

/** Images of each class that choose settings, as in CoOp (Zhou et al. 2022): as many as train, at most 4. */
export const validationShots = (shots: number): number => Math.min(shots, 4)

/** The images that train and those that choose: drawn by the seed, the second from a set of their own if there is one. */
export function drawShots({ train, validation }: OpenDatasets['datasets'][number], shots: number, seed: number) {
  if (validation === undefined) return fewShotWithValidation(train, shots, validationShots(shots), seed)
  const drawn = fewShotWithValidation(train, shots, 0, seed)
  return { train: drawn.train, validation: fewShotWithValidation(validation, validationShots(shots), 0, seed).train }
}

export const validationSet = (data: Dataset) => ({ name: 'validation', data })

export const fewShot: Protocol = {
  name: 'few-shot',
  about: 'k images of each class train; the whole test set and other domains are looked at (CoOp, Zhou et al. 2022; R-Adapter, §4).',
  shots: [1, 2, 4, 8, 16],
  tasks: ({ datasets, ood }, shots = 16, seed) =>
    datasets.map((dataset): Task => {
      const { train, validation } = drawShots(dataset, shots, seed)
      const tests = [{ name: dataset.name, data: dataset.test }, ...ood]
      return {
        name: `${dataset.name}, ${shots} shots`,
        dataset: dataset.name,
        shots,
        seed,
        train,
        validation: validationSet(validation),
        tests,
      }
    }),
  tables: (tasks, { datasets, ood }) =>
    datasets.map(({ name }) => ({
      title: name,
      columns: tasks
        .filter(({ dataset }) => dataset === name)
        .flatMap((task) => {
          const test = {
            head: task.shots === 1 ? '1 shot' : `${task.shots} shots`,
            value: (row: Parameters<typeof meanOf>[0]) => percents(row.scores(task, name)),
          }
          const others = ood.map((set) => ({
            head: `${set.name} (${task.shots})`,
            value: (row: Parameters<typeof meanOf>[0]) => percents(row.scores(task, set.name)),
          }))
          return [test, ...others]
        }),
    })),
}
