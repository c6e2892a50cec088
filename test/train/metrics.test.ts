import { argmax, bestRank, ClassificationCounter, harmonicMean, mean, rankOf, summarizeRanks } from '../../lib/train/metrics.js'
import fc from '../fast-check.js'

describe('ranks', () => {
  test('count what is greater, and equals that come first', () => {
    const scores = [0.3, 0.9, 0.3, -1, 0.3]
    expect([0, 1, 2, 3, 4].map((target) => rankOf(scores, target))).toEqual([2, 1, 3, 5, 4])
  })

  test('look at their own row only', () => {
    expect(rankOf([9, 9, 1, 2, 3, 9], 0, 2, 3)).toBe(3)
    expect(argmax([9, 9, 1, 2, 3, 9], 2, 3)).toBe(2)
  })

  test('of all candidates are a permutation, whatever the ties, and argmax has rank 1', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -2, max: 2 }), { minLength: 1, maxLength: 20 }), (scores) => {
        const ranks = scores.map((_, target) => rankOf(scores, target))
        expect([...ranks].sort((a, b) => a - b)).toEqual(scores.map((_, i) => i + 1))
        expect(ranks[argmax(scores)]).toBe(1)
      }),
    )
  })

  test('refuse NaN, which would otherwise be a perfect rank', () => {
    expect(() => rankOf([Number.NaN, 1], 0)).toThrow(expect.objectContaining({ code: 'E_NOT_FINITE' }))
    expect(() => argmax([1, Number.NaN])).toThrow(expect.objectContaining({ code: 'E_NOT_FINITE' }))
    expect(rankOf([Number.NEGATIVE_INFINITY, 1], 0)).toBe(2)
  })

  test('of several targets are the best of them', () => {
    const scores = [0.5, 0.1, 0.7, 0.5, 0.9]
    expect(bestRank(scores, [1, 2])).toBe(2)
    expect(bestRank(scores, [3, 0])).toBe(3) // equal scores: the first one counts
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 3, maxLength: 12 }), (row) => {
        expect(bestRank(row, [0, 2])).toBe(Math.min(rankOf(row, 0), rankOf(row, 2)))
      }),
    )
  })
})

describe('classification', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g']

  test('counts top-1, top-5 and classes by hand', () => {
    const counter = new ClassificationCounter(names)
    counter.add([7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1], [0, 1]) // right; rank 2
    counter.add([7, 6, 5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 6, 7], [6, 1]) // rank 7; rank 6
    const result = counter.result()
    expect(result).toMatchObject({ count: 4, top1: 0.25, top5: 0.5, meanPerClass: 1 / 3 })
    expect(result.perClass[1]).toEqual({ name: 'b', count: 2, top1: 0, top5: 0.5 })
    expect(result.perClass[2]).toEqual({ name: 'c', count: 0, top1: null, top5: null })
    expect(counter.confusion[1]).toEqual([1, 0, 0, 0, 0, 0, 1])
    expect(JSON.parse(JSON.stringify(result))).toEqual(result)
  })

  test('gives equal scores what guessing gives', () => {
    const counter = new ClassificationCounter(names)
    counter.add(new Float32Array(49), [0, 1, 2, 3, 4, 5, 6])
    expect(counter.result()).toMatchObject({ top1: 1 / 7, top5: 5 / 7, meanPerClass: 1 / 7 })
  })

  test('has top-5 of 1 with five classes', () => {
    const counter = new ClassificationCounter(names.slice(0, 5))
    counter.add([0, 1, 2, 3, 4], [0])
    expect(counter.result()).toMatchObject({ top1: 0, top5: 1 })
  })

  test('refuses wrong shapes, unknown classes and nothing at all', () => {
    const counter = new ClassificationCounter(names)
    expect(() => counter.add([1, 2], [0])).toThrow(expect.objectContaining({ code: 'E_SHAPE' }))
    expect(() => counter.add(new Float32Array(7), [7])).toThrow(expect.objectContaining({ code: 'E_LABEL' }))
    expect(() => counter.add(new Float32Array(7), [-1])).toThrow(expect.objectContaining({ code: 'E_LABEL' }))
    expect(() => counter.result()).toThrow(expect.objectContaining({ code: 'E_EMPTY' }))
  })
})

describe('summaries', () => {
  test('of ranks by hand', () => {
    expect(summarizeRanks([1, 10, 5, 100])).toEqual({ count: 4, r1: 0.25, r5: 0.5, r10: 0.75, median: 7.5, mean: 29 })
    expect(summarizeRanks([3, 1, 20]).median).toBe(3)
    expect(() => summarizeRanks([])).toThrow(expect.objectContaining({ code: 'E_EMPTY' }))
  })

  test('H, mean and deviation', () => {
    expect(harmonicMean(0.5, 1)).toBeCloseTo(2 / 3, 12)
    expect(harmonicMean(0, 0)).toBe(0)
    expect(mean([1, 2, 6])).toBe(3)
    expect(() => mean([])).toThrow(expect.objectContaining({ code: 'E_EMPTY' }))
  })
})
