import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { native } from '../../lib/native.js'
import { Gaussian, type GaussianOptions } from '../../lib/statistics/gaussian.js'
import { Moments } from '../../lib/statistics/moments.js'
import { fixture, relativeError } from '../fixture.js'

/** f64 values of the fixture; its features are f32. */
async function oracle(): Promise<(name: string) => Float64Array> {
  const file = await openSafetensors(fixture('gaussian', 'case.safetensors'))
  const values = new Map<string, Float64Array>()
  for (const { name, path, offset, count, dtype, fileSize } of file.tensors.values())
    values.set(name, new Float64Array(await native.readTensor({ path, offset, count, from: dtype, to: 'F64', expectedSize: fileSize })))
  return (name) => values.get(name) as Float64Array
}

async function momentsOf(rows: Float32Array, dimension: number, piece = Number.POSITIVE_INFINITY): Promise<Moments> {
  const moments = new Moments(dimension)
  const count = rows.length / dimension
  const size = Math.min(piece, count)
  for (let at = 0; at < count; at += size) moments.add(rows.subarray(at * dimension, Math.min(count, at + size) * dimension))
  return moments
}
const fitted = async (rows: Float32Array, dimension: number, options?: GaussianOptions) =>
  Gaussian.fit(await momentsOf(rows, dimension), options)

/** Rows that repeat from run to run, around 0.3. */
function numbers(count: number, seed = 1): Float32Array {
  let state = seed
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.2
  })
}
const permuted = (rows: Float32Array, d: number) => {
  const count = rows.length / d
  return Float32Array.from(rows, (_, at) => rows[((Math.floor(at / d) * 7 + 3) % count) * d + (at % d)])
}

describe('as PyTorch and scikit-learn compute it in f64', () => {
  const d = 12
  test.each<[string, number, GaussianOptions]>([
    ['full', 400, { shrinkage: 'none' }],
    ['few.ridge', 9, { shrinkage: 'none', ridge: 1e-3 }],
    ['few.fixed', 9, { shrinkage: 0.3 }],
    ['few.ledoit_wolf', 9, { shrinkage: 'ledoit-wolf' }],
  ])('%s: log density', async (name, count, options) => {
    const get = await oracle()
    const all = Float32Array.from(get('features'))
    const want = get(`${name}.scores`)
    for (let t = 0; t < 3; t++) {
      const gaussian = await fitted(all.subarray(t * 400 * d, (t * 400 + count) * d), d, options)
      const got = await gaussian.logDensity(Float32Array.from(get('queries')))
      const column = want.filter((_, i) => i % 3 === t)
      expect(relativeError([got, column])).toBeLessThan(1e-10)
    }
  })

  test('mean, unbiased covariance and the intensity of Ledoit and Wolf', async () => {
    const get = await oracle()
    const all = Float32Array.from(get('features'))
    for (let t = 0; t < 3; t++) {
      const { mean, covariance, estimate } = await fitted(all.subarray(t * 400 * d, (t + 1) * 400 * d), d, { shrinkage: 'none' })
      const square = get('covariance').subarray(t * d * d, (t + 1) * d * d)
      const packed = square.filter((_, at) => at % d <= Math.floor(at / d))
      expect(relativeError([mean, get('mean').subarray(t * d, (t + 1) * d)])).toBeLessThan(1e-14)
      expect(relativeError([covariance, packed])).toBeLessThan(1e-13)
      expect(estimate).toEqual({ count: 400, method: 'none', intensity: 0, ridge: 1e-7 })
      const few = await fitted(all.subarray(t * 400 * d, (t * 400 + 9) * d), d, { shrinkage: 'ledoit-wolf' })
      expect(few.estimate).toMatchObject({ count: 9, method: 'ledoit-wolf', ridge: 0 })
      expect(few.estimate.intensity).toBeCloseTo(get('few.ledoit_wolf.shrinkage')[t], 12)
    }
  })
})

/** ln N(x; μ, Σ) from the definition: determinant and inverse by Gauss and Jordan. */
function bruteForce(rows: Float32Array, d: number, x: Float32Array, ridge: number): number {
  const n = rows.length / d
  const mean = Array.from({ length: d }, (_, j) => rows.reduce((sum, v, at) => (at % d === j ? sum + v : sum), 0) / n)
  const a = mean.map((_, i) =>
    mean.map((_, j) => {
      let sum = 0
      for (let k = 0; k < n; k++) sum += (rows[k * d + i] - mean[i]) * (rows[k * d + j] - mean[j])
      return sum / (n - 1) + (i === j ? ridge : 0)
    }),
  )
  const z = mean.map((m, j) => x[j] - m)
  const y = [...z]
  let logDeterminant = 0
  for (let i = 0; i < d; i++) {
    logDeterminant += Math.log(a[i][i])
    for (let r = 0; r < d; r++) {
      if (r === i) continue
      const factor = a[r][i] / a[i][i]
      for (let c = i; c < d; c++) a[r][c] -= factor * a[i][c]
      y[r] -= factor * y[i]
    }
  }
  const distance = y.reduce((sum, value, i) => sum + (z[i] * value) / a[i][i], 0)
  return -0.5 * (d * Math.log(2 * Math.PI) + logDeterminant + distance)
}

test.each([1, 2, 5, 8])('log density in %i dimensions equals brute force', async (d) => {
  const rows = numbers(40 * d)
  const queries = numbers(33 * d, 9)
  const got = await (await fitted(rows, d, { shrinkage: 'none' })).logDensity(queries)
  const want = got.map((_, i) => bruteForce(rows, d, queries.subarray(i * d, (i + 1) * d), 1e-7))
  expect(relativeError([got, want])).toBeLessThan(1e-11)
})

describe('whatever the pieces, threads and order', () => {
  const d = 67
  const rows = numbers(211 * d)

  test('pieces and threads change no bit', async () => {
    const whole = await (await momentsOf(rows, d)).covariance()
    for (const piece of [1, 7, 32, 100]) expect(await (await momentsOf(rows, d, piece)).covariance()).toEqual(whole)
    const { threads } = native.backendInfo()
    const density = await (await fitted(rows, d)).logDensity(rows)
    native.setThreads(3)
    expect(await (await momentsOf(rows, d)).covariance()).toEqual(whole)
    expect(await (await fitted(rows, d)).logDensity(rows)).toEqual(density)
    native.setThreads(threads)
  })

  test('the order of samples changes rounding only', async () => {
    for (const shrinkage of ['none', 'ledoit-wolf', 0.1] as const) {
      const queries = numbers(50 * d, 4)
      const one = await fitted(rows, d, { shrinkage })
      const other = await fitted(permuted(rows, d), d, { shrinkage })
      expect(relativeError([other.covariance, one.covariance])).toBeLessThan(1e-13)
      expect(relativeError([await other.logDensity(queries), await one.logDensity(queries)])).toBeLessThan(1e-11)
      expect(other.estimate.intensity).toBeCloseTo(one.estimate.intensity, 12)
    }
  })

  test('a density depends on its row alone', async () => {
    const gaussian = await fitted(rows, d)
    const all = await gaussian.logDensity(rows)
    for (const i of [0, 31, 32, 210]) expect(await gaussian.logDensity(rows.subarray(i * d, (i + 1) * d))).toEqual(all.subarray(i, i + 1))
    expect(await gaussian.logDensity(new Float32Array())).toEqual(new Float64Array())
  })

  test('what was kept makes the same Gaussian', async () => {
    const gaussian = await fitted(rows, d, { shrinkage: 0.2 })
    const again = await Gaussian.of(gaussian.estimate, gaussian.mean, gaussian.covariance)
    expect(await again.logDensity(rows)).toEqual(await gaussian.logDensity(rows))
  })
})

describe('few samples', () => {
  test('are shrunk by default when fewer than twice the dimension, and the log says so', async () => {
    const d = 6
    expect((await fitted(numbers(12 * d), d)).estimate.method).toBe('none')
    expect((await fitted(numbers(12 * d), d)).note).toBeUndefined()
    const few = await fitted(numbers(11 * d), d)
    expect(few.estimate).toEqual({ count: 11, method: 'fixed', intensity: 0.1, ridge: 1e-7 })
    expect(few.note).toBe('covariance shrunk by 0.1: 11 samples of 6 dimensions, fewer than twice as many')
    const wolf = await fitted(numbers(30 * d), d, { shrinkage: 'ledoit-wolf' })
    expect(wolf.note).toMatch(/^covariance shrunk by [01][.\d]* \(Ledoit and Wolf\): 30 samples of 6 dimensions$/)
  })

  test('without shrinkage are warned of', async () => {
    const d = 6
    expect((await fitted(numbers(6 * d), d, { shrinkage: 'none' })).note).toMatch(
      /^6 samples of 6 dimensions leave the covariance singular/,
    )
    expect((await fitted(numbers(7 * d), d, { shrinkage: 'none' })).note).toBeUndefined()
  })

  test('equal ones have no density without a ridge', async () => {
    await expect(fitted(new Float32Array(20).fill(0.5), 4, { shrinkage: 'none', ridge: 0 })).rejects.toMatchObject({
      code: 'E_NOT_POSITIVE',
    })
    expect((await fitted(new Float32Array(20).fill(0.5), 4, { shrinkage: 'none' })).mean).toEqual(new Float64Array(4).fill(0.5))
  })

  test('none, or rows of another length, are refused', async () => {
    await expect(Gaussian.fit(new Moments(4))).rejects.toMatchObject({ code: 'E_DATA' })
    expect(() => new Moments(4).add(new Float32Array(5))).toThrow(expect.objectContaining({ code: 'E_SHAPE' }))
    await expect(fitted(numbers(40), 4, { shrinkage: 1.5 })).rejects.toMatchObject({ code: 'E_OPTION' })
    await expect(fitted(numbers(40), 4, { ridge: -1 })).rejects.toMatchObject({ code: 'E_OPTION' })
  })
})
