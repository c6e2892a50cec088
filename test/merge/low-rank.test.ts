import { type LowRankForm, lowRankOf, lowRankOfProduct } from '../../lib/merge/low-rank.js'
import { normals } from '../ops/normals.js'

/** B [out, rank], A [rank, inner] and B A. */
function product(out: number, inner: number, rank: number) {
  const [b, a] = [Float64Array.from(normals(1, out * rank)), Float64Array.from(normals(2, rank * inner))]
  const delta = new Float64Array(out * inner)
  for (let i = 0; i < out; i++)
    for (let r = 0; r < rank; r++) for (let j = 0; j < inner; j++) delta[i * inner + j] += b[i * rank + r] * a[r * inner + j]
  return { a, b, delta }
}

/** ‖Δ − B A‖ / ‖Δ‖ */
function distance(delta: Float64Array, { a, b }: LowRankForm, inner: number): number {
  const [out, rank] = [delta.length / inner, a.length / inner]
  let [apart, all] = [0, 0]
  for (let i = 0; i < out; i++)
    for (let j = 0; j < inner; j++) {
      let at = delta[i * inner + j]
      all += at * at
      for (let r = 0; r < rank; r++) at -= b[i * rank + r] * a[r * inner + j]
      apart += at * at
    }
  return Math.sqrt(apart / all)
}

test('a small matrix is decomposed whole: a low rank is the beginning of the full one, bit for bit', async () => {
  const { delta } = product(120, 100, 60)
  const form = await lowRankOf(delta, 120, 100, 4)
  expect(form.a).toEqual((await lowRankOf(delta, 120, 100, 100)).a.slice(0, 4 * 100))
  expect(distance(delta, form, 100)).toBeCloseTo(form.error, 6)
})

test('a matrix with both sides above 1024 goes by a random subspace, which finds the best of the rank', async () => {
  const { a, b, delta } = product(1030, 1040, 6)
  const form = await lowRankOf(delta, 1030, 1040, 4)
  const best = await lowRankOfProduct({ a, b, out: 1030, total: 6, inner: 1040 }, 4)
  expect(form.energy).toBeCloseTo(best.energy, 9)
  expect(distance(delta, form, 1040)).toBeCloseTo(best.error, 6)
  expect(form.error).toBeCloseTo(best.error, 6)
})

test('what has the rank already is kept whole; zero is zero', async () => {
  const { a, b, delta } = product(24, 40, 3)
  for (const balanced of [false, true]) expect(distance(delta, await lowRankOf(delta, 24, 40, 3, { balanced }), 40)).toBeLessThan(1e-6)
  expect(distance(delta, await lowRankOfProduct({ a, b, out: 24, total: 3, inner: 40 }, 5), 40)).toBeLessThan(1e-6) // the rest of rank 5 is zero
  expect(await lowRankOf(new Float64Array(12), 3, 4, 2)).toMatchObject({ energy: 1, error: 0 })
})
