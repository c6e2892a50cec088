import { join } from 'node:path'
import { classChanges, directionOf, meanChange, setChanges, verdictOf } from '../../lib/report/changes.js'
import { readRun } from '../../lib/report/run-folder.js'
import { temporaryFolder } from '../temporary-folder.js'
import { writeRun } from './run-folder.js'

const folder = temporaryFolder()
const changesOf = async (...args: Parameters<typeof writeRun>) => setChanges(await readRun(writeRun(...args)))

test('scores, images and confusions of a set, counted by hand', async () => {
  const [photos, drawings] = await changesOf(join(folder, 'run'))
  expect(photos).toMatchObject({ name: 'photos', role: 'test', before: 4 / 12, after: 8 / 12 })
  expect(drawings.role).toBe('ood')
  expect(photos.gained.map(({ id, truth, before, after }) => [id, truth, before, after])).toEqual([
    ['1.png', 'cat', 'dog', 'cat'],
    ['2.png', 'cat', 'dog', 'cat'],
    ['5.png', 'dog', 'cat', 'dog'],
    ['6.png', 'dog', 'cat', 'dog'],
    ['10.png', 'cow', 'dog', 'cow'],
  ])
  expect(photos.lost).toMatchObject([{ id: '8.png', truth: 'cow', before: 'cow', after: 'dog', image: join(folder, 'run', '8.png') }])
  expect(photos.confusions).toEqual([
    { truth: 'cat', predicted: 'dog', before: 3, after: 1 },
    { truth: 'dog', predicted: 'cat', before: 3, after: 1 },
    { truth: 'cow', predicted: 'dog', before: 2, after: 2 },
  ])
})

test('the interval is that of paired images: 1.96 √(b + c − (b − c)²/n) / n', async () => {
  const [{ margin }] = await changesOf(join(folder, 'run'))
  expect(margin).toBeCloseTo((1.96 * Math.sqrt(6 - 16 / 12)) / 12, 12)
})

test('without predictions the interval is that of two samples, and no image is told', async () => {
  const run = await readRun(join(folder, 'run'), { predictions: false })
  const [{ margin, gained }] = setChanges(run)
  expect(margin).toBeCloseTo(1.96 * Math.sqrt((2 * (1 / 3) * (2 / 3)) / 12), 12)
  expect(gained).toEqual([])
})

test('classes by their change', async () => {
  const [photos] = await changesOf(join(folder, 'run'))
  expect(classChanges(photos)).toEqual([
    { name: 'cat', count: 4, before: 0.25, after: 0.75 },
    { name: 'dog', count: 4, before: 0.25, after: 0.75 },
    { name: 'cow', count: 4, before: 0.5, after: 0.5 },
  ])
})

test('a run is judged by its test sets, without them by captions, last by validation', async () => {
  const [photos, drawings] = await changesOf(join(folder, 'run'))
  const as = (role: 'test' | 'captions' | 'validation') => ({ ...photos, role })
  const judged = (...roles: Parameters<typeof as>[0][]) => verdictOf([...roles.map(as), drawings]).learned.map(({ role }) => role)
  expect(judged('validation', 'captions', 'test')).toEqual(['test'])
  expect(judged('validation', 'captions')).toEqual(['captions'])
  expect(judged('validation')).toEqual(['validation'])
  expect(verdictOf([photos, drawings]).kept).toEqual([drawings])
})

test('the mean of sets, each counting the same; margins add as independent', () => {
  const mean = meanChange([
    { before: 0.2, after: 0.4, margin: 0.03 },
    { before: 0.4, after: 0.5, margin: 0.04 },
  ])
  expect(mean.before).toBeCloseTo(0.3, 12)
  expect(mean.after).toBeCloseTo(0.45, 12)
  expect(mean.margin).toBeCloseTo(0.025, 12)
})

test.each([
  [0.2, 'rose'],
  [-0.2, 'fell'],
  [0.09, 'held'],
  [-0.1, 'held'],
])('a change of %d with a margin of 0.1 is told as %s', (change, direction) => {
  expect(directionOf({ before: 0.5, after: 0.5 + change, margin: 0.1 })).toBe(direction)
})
