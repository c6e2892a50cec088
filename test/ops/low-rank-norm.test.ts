import { lowRankNorm } from '../../lib/ops.js'
import { scope, Tensor } from '../../lib/tensor.js'
import { relativeError } from '../fixture.js'
import { bf16Bits, roundTo } from './bf16.js'
import { normals, seedOf } from './normals.js'

const [out, inputs, rank, row, rows] = [19, 70, 5, 4, 11]
const draw = (name: string, count: number, spread = 1) => Float32Array.from(normals(seedOf(name), count), (z) => Math.fround(spread * z))

test.each(['f32', 'bf16'] as const)('row norms of W + s B A, W in %s', async (dtype) => {
  const w = draw('w', out * inputs).map((v) => roundTo(dtype, v))
  const a = draw('a', rank * inputs)
  const b = draw('b', rows * rank)
  const [s] = [0.75]
  const norms = Float64Array.from({ length: rows }, (_, i) => {
    let total = 0
    for (let j = 0; j < inputs; j++) {
      let delta = 0
      for (let r = 0; r < rank; r++) delta += b[i * rank + r] * a[r * inputs + j]
      total += (w[(row + i) * inputs + j] + s * delta) ** 2
    }
    return Math.sqrt(total)
  })
  const [norm, inverse, plain] = scope(() => {
    const weight = dtype === 'f32' ? Tensor.from(w, [out, inputs]) : Tensor.from(bf16Bits(w), [out, inputs], 'bf16')
    const delta = { a: Tensor.from(a, [rank, inputs]), b: Tensor.from(b, [rows, rank]), scale: Tensor.scalar(s) }
    return [
      lowRankNorm(weight, { delta, row, rows }),
      lowRankNorm(weight, { delta, row, rows, inverse: true }),
      lowRankNorm(weight, { row, rows }),
    ]
  })
  expect(relativeError([await norm.floats(), norms])).toBeLessThan(1e-6)
  expect(relativeError([await inverse.floats(), norms.map((n) => 1 / n)])).toBeLessThan(1e-6)
  const own = Float64Array.from({ length: rows }, (_, i) => Math.hypot(...w.slice((row + i) * inputs, (row + i + 1) * inputs)))
  expect(relativeError([await plain.floats(), own])).toBeLessThan(1e-6)
  for (const t of [norm, inverse, plain]) t.dispose()
})
