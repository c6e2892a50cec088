// Retrieval: captions of one dataset train; the ranks of both ways are measured on every set.
import { drawAll } from './cross-dataset.js'
import { validationSet } from './few-shot.js'
import { percents, RANKS, spread } from './measures.js'
import type { Protocol, Row } from './protocol.js'

export const retrieval: Protocol = {
  name: 'retrieval',
  about:
    'Images and captions of one dataset train; both ways are searched in its test set and in others (Karpathy & Fei-Fei 2015; R-Adapter, §4). Image→text: the best of an image’s own captions counts.',
  shots: [undefined],
  tasks: ({ datasets, ood }, _, seed) => {
    const [source] = datasets
    const { train, validation } = drawAll(source, undefined, seed)
    const captioned = datasets.map(({ name, test }) => ({ name, data: test, task: 'retrieval' as const }))
    const chooses = { ...validationSet(validation), task: 'retrieval' as const }
    return [{ name: source.name, dataset: source.name, seed, train, validation: chooses, tests: [...captioned, ...ood] }]
  },
  tables: (tasks, { datasets, ood }) =>
    tasks.flatMap((task) => [
      ...datasets.map(({ name }) => ({
        title: name === task.dataset ? `${name} (trained on)` : name,
        columns: ['i→t', 't→i'].flatMap((way) =>
          Object.keys(RANKS).map((what) => ({
            head: `${way} ${what}`,
            value: (row: Row) => (what.startsWith('R@') ? percents : spread)(row.scores(task, `${name} ${way} ${what}`)),
          })),
        ),
      })),
      ...(ood.length === 0
        ? []
        : [
            {
              title: 'other sets',
              columns: ood.map(({ name }) => ({ head: name, value: (row: Row) => percents(row.scores(task, name)) })),
            },
          ]),
    ]),
}
