/** An adapter's change of a tensor outside the blocks, folded in on the host: summed in f64, rounded once to f32. */
import { CambiumError } from '../errors.js'
import type { PlacedTarget } from '../formats/peft-adapter.js'
import { native } from '../native.js'
import type { SiteFactors } from './sites.js'

/** A tensor of the model as the adapter has it: from the values that the model has. */
export type TensorChange = (base: Float32Array) => Promise<Float32Array>

/** The tensors that a target changes, by canonical name, and how. @throws E_ADAPTER for a bias without a base bias */
export function foldInto(target: PlacedTarget, factors: SiteFactors): [string, TensorChange][] {
  const { kind, module, weight, baseBias, scaling } = target
  const { bias } = factors
  const fold: TensorChange = kind === 'embedding' ? (base) => foldTable(base, factors) : (base) => foldMatrix(base, factors)
  if (bias === undefined) return [[weight.source, fold]]
  if (baseBias === undefined) throw new CambiumError('E_ADAPTER', `${module}: expected a bias in the base for the adapter's bias, got none`)
  return [
    [weight.source, fold],
    [baseBias.source, async (base) => base.map((value, i) => value + scaling * bias[i])],
  ]
}

/** W + s B A, W [out, in] (a convolution's kernels flattened), or m ∘ that / ‖that‖ by rows. */
async function foldMatrix(base: Float32Array, { a, b, rank, in: width, out, scaling, magnitude }: SiteFactors): Promise<Float32Array> {
  const folded = await native.product({ a: b, b: a, m: out, k: rank, n: width, alpha: scaling, add: base })
  if (magnitude === undefined) return folded
  for (let row = 0; row < out; row++) {
    const values = folded.subarray(row * width, (row + 1) * width)
    const factor = magnitude[row] / Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
    for (let i = 0; i < width; i++) values[i] *= factor
  }
  return folded
}

/** W + s (B A)ᵀ, W [V, D], or m ∘ that / ‖that‖ by columns. */
async function foldTable(base: Float32Array, { a, b, rank, in: rows, out: width, scaling, magnitude }: SiteFactors): Promise<Float32Array> {
  const up = new Float32Array(b.length) // Bᵀ, [R, D]
  for (let d = 0; d < width; d++) for (let r = 0; r < rank; r++) up[r * width + d] = b[d * rank + r]
  const folded = await native.product({ a, transposeA: true, b: up, m: rows, k: rank, n: width, alpha: scaling, add: base })
  if (magnitude === undefined) return folded
  const squares = new Float64Array(width)
  for (let i = 0; i < folded.length; i++) squares[i % width] += folded[i] ** 2
  const factors = squares.map((square, d) => magnitude[d] / Math.sqrt(square))
  for (let i = 0; i < folded.length; i++) folded[i] *= factors[i % width]
  return folded
}
