import { cosineToMin, cosineWarmup, defaultMomentum } from '../../lib/optim/schedule.js'

test('a linear warm-up reaches the peak at its last step, the cosine leaves from there', () => {
  const rate = cosineWarmup({ lr: 8, steps: 12, warmup: 4 })
  expect([0, 1, 2, 3, 4].map(rate)).toEqual([2, 4, 6, 8, 8])
  expect(rate(8)).toBeCloseTo(4, 12) // half way
  expect(rate(6)).toBeCloseTo(4 + 4 * Math.SQRT1_2, 12)
  expect(rate(11)).toBeCloseTo(4 * (1 + Math.cos((7 / 8) * Math.PI)), 12)
  expect(rate(12)).toBeCloseTo(0, 12)
  expect(rate(100)).toBe(rate(12))
})

test('two cosines: one cut off at the floor, one that ends there', () => {
  const options = { lr: 1, steps: 10, warmup: 2, minLr: 0.1 }
  const [floor, toMin] = [cosineWarmup(options), cosineToMin(options)]
  const half = (i: number) => 0.5 * (1 + Math.cos((Math.PI * (i - 2)) / 8))
  for (const i of [0, 1]) expect([floor(i), toMin(i)]).toEqual([(i + 1) / 2, (i + 1) / 2])
  for (let i = 2; i < 10; i++) {
    expect(floor(i)).toBeCloseTo(Math.max(0.1, half(i)), 12)
    expect(toMin(i)).toBeCloseTo(0.1 + 0.9 * half(i), 12)
  }
  expect(() => cosineToMin({ ...options, minLr: 2 })).toThrow(/0 <= minLr <= lr/)
})

test.each([
  [{ lr: 0 }, /^lr: expected a positive number, got 0$/],
  [{ lr: Number.NaN }, /^lr: .*got NaN$/],
  [{ lr: Number.POSITIVE_INFINITY }, /^lr: .*got Infinity$/],
  [{ lr: 1, warmup: -1 }, /warmup >= 0.*got -1 and 0$/],
  [{ lr: 1, minLr: -0.1 }, /got 0 and -0.1$/],
  [{ lr: 1, minLr: 1.1 }, /minLr <= lr, got 0 and 1.1$/],
])('%o is refused', (options, message) => {
  for (const schedule of [cosineWarmup, cosineToMin]) {
    const wrong = () => schedule({ steps: 4, ...options })
    expect(wrong).toThrow(expect.objectContaining({ code: 'E_OPTION', message: expect.stringMatching(message) }))
  }
})

test('the average of a short run is over its last tenth, of a long one over a thousand steps', () => {
  expect([1, 100, 200, 1000, 10_000, 1e6].map(defaultMomentum)).toEqual([0.9, 0.9, 0.95, 0.99, 0.999, 0.999])
})
