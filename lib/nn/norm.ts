// A layer norm of a model: its weights as one thing, for the layer_norm op.
import type { FloatDType } from '../native.js'
import { layerNorm } from '../ops.js'
import type { Tensor } from '../tensor.js'

/** weight and bias [D], f32. */
export interface NormWeights {
  readonly weight: Tensor
  readonly bias: Tensor
}

export const norm = (x: Tensor, weights: NormWeights, eps: number, dtype: FloatDType): Tensor =>
  layerNorm(x, weights.weight, weights.bias, eps, dtype)
