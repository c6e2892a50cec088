import { native } from '../../lib/native.js'

/** Numbers in (-1, 1) that repeat from run to run. */
function numbers(count: number, seed = 1): Float64Array {
  let state = seed
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}
const norm = (a: Float64Array) => Math.sqrt(a.reduce((sum, x) => sum + x * x, 0))

/** ‖a − u diag(s) vᵀ‖ / ‖a‖ */
function residual(a: Float64Array, m: number, n: number, { u, s, v }: { u: Float64Array; s: Float64Array; v: Float64Array }): number {
  const k = s.length
  const left = a.map((x, at) => {
    const [i, j] = [Math.floor(at / n), at % n]
    let sum = 0
    for (let r = 0; r < k; r++) sum += u[i * k + r] * s[r] * v[j * k + r]
    return x - sum
  })
  expect(u.length).toBe(m * k)
  return norm(left) / (norm(a) || 1)
}

/** Largest |qᵀq − 1| of q's k columns. */
function skew(q: Float64Array, k: number): number {
  let worst = 0
  for (let i = 0; i < k; i++)
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? -1 : 0
      for (let r = 0; r < q.length / k; r++) sum += q[r * k + i] * q[r * k + j]
      worst = Math.max(worst, Math.abs(sum))
    }
  return worst
}

const graded = (m: number, n: number) => numbers(m * n).map((x, at) => x * 10 ** ((-9 * (at % n)) / n))
const lowRank = (m: number, n: number, rank: number) => {
  const [b, a] = [numbers(m * rank, 2), numbers(rank * n, 3)]
  return Float64Array.from({ length: m * n }, (_, at) => {
    let sum = 0
    for (let r = 0; r < rank; r++) sum += b[Math.floor(at / n) * rank + r] * a[r * n + (at % n)]
    return sum
  })
}

test.each([
  ['square', 33, 33, numbers(33 * 33)],
  ['tall', 97, 20, numbers(97 * 20)],
  ['wide', 17, 70, numbers(17 * 70)],
  ['a column', 9, 1, numbers(9)],
  ['a row', 1, 9, numbers(9)],
  ['graded', 60, 48, graded(60, 48)],
  ['of rank 3', 40, 36, lowRank(40, 36, 3)],
  ['zero', 12, 8, new Float64Array(96)],
  ['tiny', 20, 10, numbers(200).map((x) => x * 1e-300)],
  ['huge', 20, 10, numbers(200).map((x) => x * 1e300)],
])('svd of a matrix that is %s', async (_, m, n, a) => {
  const result = await native.svd({ a, m, n })
  const k = Math.min(m, n)
  const largest = a.reduce((most, y) => Math.max(most, Math.abs(y)), 0) || 1
  const unit = a.map((x) => x / largest)
  const factor = a.findIndex((x) => x !== 0)
  const s = factor < 0 ? result.s : result.s.map((x) => x * (unit[factor] / a[factor]))
  expect(residual(unit, m, n, { ...result, s })).toBeLessThan(1e-14)
  expect(skew(result.u, k)).toBeLessThan(1e-14)
  expect(skew(result.v, k)).toBeLessThan(1e-14)
  expect([...result.s]).toEqual([...result.s].sort((x, y) => y - x))
  for (let i = 0; i < k; i++) {
    const column = Array.from({ length: m }, (_, r) => result.u[r * k + i])
    expect(Math.max(...column)).toBeGreaterThanOrEqual(-Math.min(...column))
  }
})

test('singular values of known matrices', async () => {
  // Golub and Kahan's example with a = 1e-8 loses its small value when AᵀA is formed.
  const tiny = 1e-8
  const { s } = await native.svd({ a: Float64Array.of(1, 1, tiny, 0, 0, tiny), m: 3, n: 2 })
  expect(Math.abs(s[0] - Math.sqrt(2 + tiny * tiny))).toBeLessThan(1e-15)
  expect(Math.abs(s[1] / tiny - 1)).toBeLessThan(1e-14)
  const diagonal = await native.svd({ a: Float32Array.of(0, 3, -5, 0), m: 2, n: 2 })
  expect([...diagonal.s]).toEqual([5, 3])
})

test('the first triples are those of the whole, for any number of threads', async () => {
  const a = numbers(120 * 80)
  const whole = await native.svd({ a, m: 120, n: 80 })
  const { threads } = native.backendInfo()
  native.setThreads(1)
  const first = await native.svd({ a, m: 120, n: 80, rank: 5 })
  native.setThreads(threads)
  expect([...first.s]).toEqual([...whole.s.subarray(0, 5)])
  for (let i = 0; i < 120; i++) expect([...first.u.subarray(i * 5, i * 5 + 5)]).toEqual([...whole.u.subarray(i * 80, i * 80 + 5)])
})

test('a random subspace finds what falls off, and is the whole when it spans it', async () => {
  const a = lowRank(90, 70, 6).map((x, i) => x + 1e-7 * numbers(1, i)[0])
  const exact = await native.svd({ a, m: 90, n: 70, rank: 6 })
  const near = await native.svd({ a, m: 90, n: 70, rank: 6, randomized: { seed: 5, oversample: 4 } })
  for (let i = 0; i < 6; i++) expect(Math.abs(near.s[i] / exact.s[i] - 1)).toBeLessThan(1e-12)
  expect(skew(near.u, 6)).toBeLessThan(1e-14)
  expect(residual(a, 90, 70, near)).toBeLessThan(1e-6)
  const all = await native.svd({ a, m: 90, n: 70, randomized: {} })
  expect([...all.s]).toEqual([...(await native.svd({ a, m: 90, n: 70 })).s])
})

test.each([
  [50, 20],
  [20, 50],
  [33, 33],
  [70, 65],
  [5, 1],
])('qr of [%i, %i]', async (m, n) => {
  const a = numbers(m * n)
  const { q, r } = await native.qr({ a, m, n })
  const k = Math.min(m, n)
  expect(skew(q, k)).toBeLessThan(1e-14)
  const back = a.map((x, at) => {
    let sum = x
    for (let i = 0; i < k; i++) sum -= q[Math.floor(at / n) * k + i] * r[i * n + (at % n)]
    return sum
  })
  expect(norm(back) / norm(a)).toBeLessThan(1e-14)
  for (let i = 1; i < k; i++) for (let j = 0; j < i; j++) expect(r[i * n + j]).toBe(0)
})

test('qr has LAPACK’s signs', async () => {
  const { q, r } = await native.qr({ a: Float64Array.of(3, 1, 4, 2), m: 2, n: 2 })
  const expected = { q: [-0.6, -0.8, -0.8, 0.6], r: [-5, -2.2, 0, 0.4] }
  for (let i = 0; i < 4; i++) {
    expect(Math.abs(q[i] - expected.q[i])).toBeLessThan(1e-15)
    expect(Math.abs(r[i] - expected.r[i])).toBeLessThan(1e-15)
  }
  const triangular = await native.qr({ a: Float64Array.of(2, 1, 0, -3), m: 2, n: 2 }) // nothing to reflect
  expect([...triangular.r]).toEqual([2, 1, 0, -3])
})

test('what cannot be decomposed is refused', async () => {
  await expect(native.svd({ a: Float64Array.of(1, Number.NaN), m: 1, n: 2 })).rejects.toMatchObject({ code: 'E_NOT_FINITE' })
  const call = (request: object) => () => native.svd(request as never)
  expect(call({ a: new Float64Array(3), m: 2, n: 2 })).toThrow(expect.objectContaining({ code: 'E_SHAPE' }))
  expect(call({ a: new Float64Array(4), m: 2, n: 2, rank: 3 })).toThrow(expect.objectContaining({ code: 'E_SHAPE' }))
})
