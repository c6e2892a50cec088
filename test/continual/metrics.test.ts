import type { LearnReport } from '../../lib/continual/learn-report.js'
import { type AccuracyMatrix, aboveChance, accuracyMatrix, learnMetrics, leftOut } from '../../lib/continual/metrics.js'

// three tasks with 10, 20 and 70 test images; the first row is the pretrained model
const images = [10, 20, 70]
const rows = [
  [0.5, 0.4, 0.3],
  [0.9, 0.3, 0.2],
  [0.8, 0.85, 0.1],
  [0.6, 0.7, 0.95],
]
const values = (matrix: AccuracyMatrix, among?: readonly number[]) =>
  Object.fromEntries(Object.entries(learnMetrics(matrix, among)).map(([name, { value }]) => [name, value]))
const changed = (stage: number, task: number, value: number | undefined): AccuracyMatrix => ({
  images,
  rows: rows.map((row, j) => row.map((entry, i) => (j === stage && i === task ? value : entry))),
})

test('three tasks by hand', () => {
  const expected: Record<string, number> = {
    transfer: (0.3 + (0.2 + 0.1) / 2) / 2,
    average: ((0.9 + 0.8 + 0.6) / 3 + (0.3 + 0.85 + 0.7) / 3 + (0.2 + 0.1 + 0.95) / 3) / 3,
    last: (0.6 + 0.7 + 0.95) / 3,
    incremental: (0.9 + (8 + 17) / 30 + (6 + 14 + 66.5) / 100) / 3,
    lastIncremental: (6 + 14 + 66.5) / 100,
    forgetting: (0.9 - 0.6 + (0.85 - 0.7)) / 2,
    backwardTransfer: (0.6 - 0.9 + (0.7 - 0.85)) / 2,
    forwardTransfer: (0.3 - 0.4 + (0.1 - 0.3)) / 2,
    zeroShot: (0.5 + 0.4 + 0.3) / 3,
  }
  const found = values({ rows, images })
  expect(Object.keys(found).sort()).toEqual(Object.keys(expected).sort())
  for (const [name, value] of Object.entries(expected)) expect([name, found[name]]).toEqual([name, expect.closeTo(value, 12)])
})

test('Transfer looks at nothing that was trained on, and at the tasks asked for alone', () => {
  const transfer = values({ rows, images }).transfer
  for (let stage = 0; stage < 4; stage++)
    for (let task = 0; task < 3; task++) {
      const learnedAfter = task // stages[task + 1] is the first after it
      const matters = stage >= 1 && stage <= learnedAfter
      expect([stage, task, values(changed(stage, task, 0.123)).transfer !== transfer]).toEqual([stage, task, matters])
    }
  expect(learnMetrics({ rows, images }, [2]).transfer).toEqual({ value: expect.closeTo(0.15, 12), tasks: [2] })
  expect(learnMetrics({ rows, images }, []).transfer).toEqual({ value: undefined, tasks: [] })
})

test('what never falls is not forgotten', () => {
  const rising = [
    [0.1, 0.1, 0.1],
    [0.5, 0.1, 0.1],
    [0.5, 0.6, 0.1],
    [0.7, 0.6, 0.8],
  ]
  const { forgetting, backwardTransfer } = values({ rows: rising, images })
  expect(forgetting).toBeCloseTo(-0.1, 12) // 0.5 -> 0.7, 0.6 -> 0.6
  expect(backwardTransfer).toBeCloseTo(0.1, 12)
  const level = rising.map((row) => row.map((value, i) => (i === 0 && value > 0.5 ? 0.5 : value)))
  expect(values({ rows: level, images }).forgetting).toBe(0)
})

test('a constant predictor over balanced classes: one in the classes seen', () => {
  const constant = [
    [undefined, undefined],
    [1, undefined],
    [0.5, 0],
  ]
  const { incremental, lastIncremental } = values({ rows: constant, images: [20, 20] })
  expect(lastIncremental).toBe(0.25) // tasks of two classes: half of the first, none of the second
  expect(incremental).toBe((1 + 0.25) / 2)
})

test('a measure is taken over the tasks of which all is known, and says which', () => {
  const metrics = learnMetrics(changed(3, 0, undefined))
  expect(metrics.last).toEqual({ value: expect.closeTo((0.7 + 0.95) / 2, 12), tasks: [1, 2] })
  expect(metrics.average.tasks).toEqual([1, 2])
  expect(metrics.forgetting).toEqual({ value: expect.closeTo(0.15, 12), tasks: [1] })
  expect(metrics.lastIncremental).toEqual({ value: undefined, tasks: [1, 2] })
  expect(metrics.transfer).toEqual(learnMetrics({ rows, images }).transfer)
  expect(learnMetrics({ rows: [[0.5]], images: [10] }).last).toEqual({ value: undefined, tasks: [] })
})

test('read from a report, in both label spaces; chance is left aside', () => {
  const set = (own: number, union?: number) => ({ own, images: 100, ...(union === undefined ? {} : { union }) })
  const report = {
    protocol: 'domain-class-incremental',
    sets: [
      { name: 'a', task: 0, classes: 4, images: 100 },
      { name: 'b', task: 1, classes: 2, images: 100 },
      { name: 'w', task: null, classes: 10, images: 100 },
    ],
    stages: [
      { after: -1, sets: { a: set(0.34, 0.2), b: set(0.59, 0.1), w: set(0.9) } },
      { after: 0, sets: { a: set(0.8, 0.7), w: set(0.8) } },
    ],
  } as unknown as LearnReport
  expect(accuracyMatrix(report)).toEqual({
    images: [100, 100],
    rows: [
      [0.34, 0.59],
      [0.8, undefined],
    ],
  })
  expect(accuracyMatrix(report, 'union').rows).toEqual([
    [0.2, 0.1],
    [0.7, undefined],
  ])
  expect(accuracyMatrix({ ...report, protocol: 'domain-incremental' }, 'union').rows[0]).toEqual([0.34, 0.59])
  expect(aboveChance(report)).toEqual([0]) // 0.25 + 2·0.0433 < 0.34; 0.5 + 2·0.05 > 0.59
})

test('what means over tasks leave out is named with its reason', () => {
  const set = (own: number) => ({ own, images: 100 })
  const task = (name: string, index: number) => ({ name, task: index, classes: 2, images: 100 })
  const report = {
    protocol: 'domain-class-incremental',
    sets: [task('a', 0), task('b', 1), task('c', 2), { name: 'w', task: null, classes: 10, images: 100 }],
    stages: [
      { after: -1, sets: { a: set(0.9), b: set(0.5), c: set(0.8), w: set(0.9) } },
      { after: 0, sets: { a: set(0.9), b: set(0.5), w: set(0.9) } },
      { after: 1, sets: { a: set(0.9), b: set(0.5), w: set(0.9) } },
      { after: 2, sets: { a: set(0.9), b: set(0.5), c: set(0.9), w: set(0.9) } },
    ],
  } as unknown as LearnReport
  expect(leftOut(report)).toEqual({ guessed: ['b'], late: ['c'], unseen: ['c'] })
  const [before, ...after] = report.stages
  const { c: _, ...sets } = before.sets
  expect(leftOut({ ...report, stages: [{ ...before, sets }, ...after] })).toEqual({ guessed: ['b'], late: ['c'], unseen: ['c'] })
  expect(leftOut({ ...report, stages: [before] })).toEqual({ guessed: ['b'], late: [], unseen: [] })
})
