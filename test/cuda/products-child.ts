// The error of products of f32 on the device that CAMBIUM_CUDA_LIBRARY has, against float64: of the operands as they are, and of
// operands rounded to TF32 (10 bits of fraction). Prints one JSON line.
import { useDevice } from '../../lib/device.js'
import * as ops from '../../lib/ops.js'
import { step, Tensor } from '../../lib/tensor.js'
import { relativeError } from '../ops/check-case.js'
import { normals } from '../ops/normals.js'

export type ProductErrors = { name: string; full: number; rounded: number }[]

/** To the nearest, halves away from zero. */
function tf32(values: Float32Array): Float32Array {
  const bits = new Uint32Array(new Float32Array(values).buffer)
  return new Float32Array(bits.map((x) => (x + 0x1000) & 0xffffe000).buffer)
}

/** x [rows, k] times w [columns, k] transposed, in float64. */
function product(x: Float32Array, w: Float32Array, k: number): Float64Array {
  const columns = w.length / k
  return Float64Array.from({ length: (x.length / k) * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns]
    let sum = 0
    for (let j = 0; j < k; j++) sum += x[row * k + j] * w[column * k + j]
    return sum
  })
}

/** skewed: with a bias (of zeros) that begins four bytes behind where a tensor does. */
async function errors(rows: number, columns: number, k: number, skewed = false): Promise<ProductErrors[number]> {
  const [x, w] = [Float32Array.from(normals(1, rows * k)), Float32Array.from(normals(2, columns * k))]
  const zeros = Tensor.zeros([columns + 1])
  const y = await step(() => {
    const bias = skewed ? ops.sliceRows(zeros, 1, columns) : undefined
    return ops.linear(Tensor.from(x, [rows, k]), Tensor.from(w, [columns, k]), { bias, dtype: 'f32' })
  })
  const got = await y.floats()
  return {
    name: `[${rows},${k}] by [${columns},${k}]`,
    full: relativeError(got, product(x, w, k)),
    rounded: relativeError(got, product(tf32(x), tf32(w), k)),
  }
}

async function main(): Promise<ProductErrors> {
  useDevice('cuda')
  // Small tiles, large ones, splits along k, edges; a bias that cuBLASLt cannot read.
  return [await errors(40, 24, 72), await errors(1090, 1030, 20), await errors(33, 50, 1030), await errors(40, 24, 72, true)]
}

main().then(
  (report) => console.log(JSON.stringify(report)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
