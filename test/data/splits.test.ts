/** Validation splits and few-shot subsets. */

import { Dataset } from '../../lib/data/dataset.js'
import { amongClasses, fewShot, fewShotWithValidation, selectClasses, splitDataset } from '../../lib/data/splits.js'
import fc from '../fast-check.js'

const set = (classes: number[]) => {
  const samples = classes.map((label, i) => ({ id: `${label}/${i}.jpg`, image: '', label }))
  return new Dataset(samples, { classNames: Array.from({ length: 1 + Math.max(...classes) }, (_, i) => `c${i}`), templates: ['{}'] })
}
const ids = (dataset: Dataset) => dataset.samples.map(({ id }) => id)
const classes = fc.array(fc.nat(4), { minLength: 1, maxLength: 60 })

test('a split divides every class and loses nothing', () => {
  fc.assert(
    fc.property(classes, fc.double({ min: 0.01, max: 0.99, noNaN: true }), fc.nat(), (labels, share, seed) => {
      const whole = set(labels)
      const { train, validation } = splitDataset(whole, share, seed)
      expect([...ids(train), ...ids(validation)].sort()).toEqual([...ids(whole)].sort())
      for (const label of new Set(labels)) {
        const all = labels.filter((other) => other === label).length
        const held = [...validation.labels()].filter((other) => other === label).length
        expect(held).toBe(Math.min(all - 1, Math.max(1, Math.round(all * share))))
      }
      expect(validation.classNames).toEqual(whole.classNames)
      expect(validation.templates).toEqual(['{}'])
    }),
  )
})

test('the split follows from seed and names alone, not from the order', () => {
  fc.assert(
    fc.property(classes, fc.nat(5), (labels, seed) => {
      const whole = set(labels)
      const turned = whole.subset([...whole.samples.keys()].reverse())
      expect(ids(splitDataset(turned, 0.3, seed).validation).sort()).toEqual(ids(splitDataset(whole, 0.3, seed).validation).sort())
    }),
  )
  const whole = set(new Array(100).fill(0))
  expect(ids(splitDataset(whole, 0.2, 1).validation)).not.toEqual(ids(splitDataset(whole, 0.2, 2).validation))
})

test('sets without labels are split as one', () => {
  const captions = new Dataset(Array.from({ length: 10 }, (_, i) => ({ id: `${i}`, image: '', captions: ['x'] })))
  expect(splitDataset(captions, 0.2).validation.length).toBe(2)
})

test('shots: so many of each class, more shots containing fewer, seeds apart', () => {
  const whole = set(Array.from({ length: 60 }, (_, i) => i % 3))
  const four = fewShot(whole, 4, 7)
  expect([0, 1, 2].map((label) => [...four.labels()].filter((other) => other === label).length)).toEqual([4, 4, 4])
  expect(ids(four)).toEqual(expect.arrayContaining(ids(fewShot(whole, 2, 7))))
  expect(ids(fewShot(whole, 4, 8))).not.toEqual(ids(four))
  expect(ids(four)).toEqual(ids(whole).filter((id) => ids(four).includes(id)))
})

test('shots that choose are others than those that train, which are the same without them', () => {
  const whole = set(Array.from({ length: 60 }, (_, i) => i % 3))
  const { train, validation } = fewShotWithValidation(whole, 4, 2, 7)
  expect(ids(train)).toEqual(ids(fewShot(whole, 4, 7)))
  expect([0, 1, 2].map((label) => [...validation.labels()].filter((other) => other === label).length)).toEqual([2, 2, 2])
  expect(ids(train).filter((id) => ids(validation).includes(id))).toEqual([])
})

test('some classes: their samples alone, named and counted anew', () => {
  const whole = set([0, 1, 2, 1, 0])
  const some = selectClasses(whole, [2, 1])
  expect(ids(some)).toEqual([1, 2, 3].map((i) => ids(whole)[i]))
  expect([...some.labels()]).toEqual([1, 0, 1])
  expect(some.classNames).toEqual([whole.classNames[2], whole.classNames[1]])
})

test('among other classes that hold its own, the same samples', () => {
  const own = new Dataset(
    [0, 1, 1].map((label, i) => ({ id: String(i), image: '', label })),
    { classNames: ['cat', 'ant'], templates: ['a {}'] },
  )
  const among = amongClasses(own, ['ant', 'bee', 'cat'])
  expect([...(among?.labels() ?? [])]).toEqual([2, 0, 0])
  expect(among).toMatchObject({ classNames: ['ant', 'bee', 'cat'], templates: ['a {}'] })
  expect(amongClasses(own, ['cat', 'ant'])).toBe(own)
  expect(amongClasses(own, ['ant', 'bee'])).toBeUndefined()
  expect(amongClasses(own, ['ant', 'cat', 'ant'])).toBeUndefined()
})

test.each<[string, () => unknown, string]>([
  ['no class left', () => selectClasses(set([0]), []), 'E_DATA'],
  ['too few to choose', () => fewShotWithValidation(set([0, 0, 1, 1]), 1, 2), 'E_DATA'],
  ['too few images', () => fewShot(set([0, 0, 1]), 2), 'E_DATA'],
  ['no labels', () => fewShot(new Dataset([{ id: 'a', image: '', captions: ['x'] }]), 1), 'E_DATA'],
  ['half a shot', () => fewShot(set([0]), 0.5), 'E_OPTION'],
  ['the whole as validation', () => splitDataset(set([0]), 1), 'E_OPTION'],
  ['no validation', () => splitDataset(set([0]), 0), 'E_OPTION'],
  ['a label without a name', () => new Dataset([{ id: 'a', image: '', label: 1 }], { classNames: ['x'] }), 'E_DATA'],
])('%s is an error', (_, run, code) => expect(run).toThrow(expect.objectContaining({ code })))
