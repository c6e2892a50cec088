import { fitCalibration, foldsOf, heldOutDensities, PAPER_CALIBRATION, weightOf } from '../../lib/statistics/calibration.js'
import { Gaussian } from '../../lib/statistics/gaussian.js'
import { Moments } from '../../lib/statistics/moments.js'

/** Rows that repeat from run to run. */
function numbers(count: number, seed = 1): Float32Array {
  let state = seed
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  })
}

test("the authors' weight is σ(s/D − 1)", () => {
  expect(weightOf(512, 512, PAPER_CALIBRATION)).toBe(0.5)
  expect(weightOf(1024, 512, PAPER_CALIBRATION)).toBeCloseTo(1 / (1 + Math.exp(-1)), 15)
  expect(weightOf(-1e6, 512, PAPER_CALIBRATION)).toBe(0)
})

test('fitted: the median held-out sample gets the typical weight, the quantile a half', () => {
  const held = Float64Array.from({ length: 101 }, (_, i) => 10 * ((i * 37) % 101))
  const calibration = fitCalibration(held, 10)
  expect(weightOf(500, 10, calibration)).toBeCloseTo(0.8, 12)
  expect(weightOf(300, 10, calibration)).toBeCloseTo(0.5, 12)
  const other = fitCalibration(held, 10, { typical: 0.95, quantile: 0.05 })
  expect(weightOf(500, 10, other)).toBeCloseTo(0.95, 12)
  expect(weightOf(50, 10, other)).toBeCloseTo(0.5, 12)
  expect(Number.isFinite(fitCalibration(new Float64Array(3).fill(7), 10).slope)).toBe(true)
})

test('folds are equal in size and follow the ids, not their order', () => {
  const ids = Array.from({ length: 23 }, (_, i) => `image ${i}`)
  const folds = foldsOf(ids)
  expect([0, 1, 2, 3, 4].map((fold) => folds.filter((f) => f === fold).length)).toEqual([5, 5, 5, 4, 4])
  const reversed = foldsOf([...ids].reverse())
  expect([...reversed].reverse()).toEqual([...folds])
})

test('a held-out density is under a Gaussian of the other folds', async () => {
  const d = 3
  const rows = numbers(30 * d)
  const folds = Int32Array.from({ length: 30 }, (_, i) => i % 3)
  const held = await heldOutDensities(rows, d, folds, { shrinkage: 0.1 })
  const want: number[] = []
  for (const fold of [0, 1, 2]) {
    const of = (own: boolean) => rows.filter((_, at) => (folds[Math.floor(at / d)] === fold) === own)
    const moments = new Moments(d)
    for (const other of [0, 1, 2]) if (other !== fold) await moments.add(rows.filter((_, at) => folds[Math.floor(at / d)] === other))
    want.push(...(await (await Gaussian.fit(moments, { shrinkage: 0.1 })).logDensity(of(true))))
  }
  expect([...held]).toEqual(want)
})
