// The pre-norm transformer block, written once: x += out(attention(norm1 x)); x += fc2(act(fc1(norm2 x))). It names the
// points of the injection seam.
import type { LayerInjection, SerialMap, TokenRows } from '../injection/injection.js'
import type { Activation, FloatDType } from '../native.js'
import { attention } from '../ops.js'
import { scope, type Tensor } from '../tensor.js'
import { type LinearWeights, linearLayer } from './linear-layer.js'
import { type NormWeights, norm } from './norm.js'

export interface BlockWeights {
  readonly norm1: NormWeights
  /** q, k and v stacked: [3D, D] */
  readonly qkv: LinearWeights
  readonly out: LinearWeights
  readonly norm2: NormWeights
  readonly fc1: LinearWeights
  readonly fc2: LinearWeights
}

export interface BlockOptions {
  readonly heads: number
  readonly activation: Activation
  readonly eps: number
  readonly causal: boolean
  /** operands of products; the residual stream is f32 */
  readonly dtype: FloatDType
}

/** The last linear of a sublayer with its residual add, and what a method puts between the two. */
function close(z: Tensor, weights: LinearWeights, residual: Tensor, rows: TokenRows, dtype: FloatDType, serial?: SerialMap): Tensor {
  if (!serial) return linearLayer(z, weights, 'f32', { residual })
  return serial(linearLayer(z, weights, dtype), residual, rows)
}

/** x [M, D] f32 -> [M, D] f32. */
export function transformerBlock(
  x: Tensor,
  weights: BlockWeights,
  options: BlockOptions,
  rows: TokenRows,
  injection?: LayerInjection,
): Tensor {
  const { heads, causal, eps, activation, dtype } = options
  const attended = scope(() => {
    const qkv = linearLayer(norm(x, weights.norm1, eps, dtype), weights.qkv, dtype)
    return close(attention(qkv, rows, { heads, causal }), weights.out, x, rows, dtype, injection?.afterAttention)
  })
  return scope(() => {
    const inner = linearLayer(norm(attended, weights.norm2, eps, dtype), weights.fc1, dtype, { activation })
    return close(inner, weights.fc2, attended, rows, dtype, injection?.afterFeedForward)
  })
}
