// A linear of a model: its weights as one thing, for the linear op.
import type { FloatDType } from '../native.js'
import { type LinearOptions, linear } from '../ops.js'
import type { Tensor } from '../tensor.js'

/** weight [out, in], bias [out] f32. */
export interface LinearWeights {
  readonly weight: Tensor
  readonly bias?: Tensor
}

/** x Wᵀ + bias with the epilogue of {@link linear}. */
export function linearLayer(
  x: Tensor,
  { weight, bias }: LinearWeights,
  dtype: FloatDType,
  options: Omit<LinearOptions, 'bias' | 'dtype'> = {},
): Tensor {
  return linear(x, weight, { ...options, bias, dtype })
}
