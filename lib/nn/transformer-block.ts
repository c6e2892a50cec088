// The pre-norm transformer block, written once: x += out(attention(norm1 x)); x += fc2(act(fc1(norm2 x))). It names the
// points of the injection seam.
import type { LayerInjection, SerialMap, TokenRows } from '../injection/injection.js'
import type { Activation, FloatDType } from '../native.js'
import { attention } from '../ops.js'
import { scope, type Tensor } from '../tensor.js'
import { type DeltaOptions, deltaOptions } from './linear-delta.js'
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
function close(z: Tensor, weights: LinearWeights, residual: Tensor, rows: TokenRows, dtype: FloatDType, added: Closing): Tensor {
  if (!added.serial) return linearLayer(z, weights, 'f32', { residual, ...added.delta })
  return added.serial(linearLayer(z, weights, dtype, added.delta), residual, rows)
}

interface Closing {
  readonly serial?: SerialMap
  readonly delta?: DeltaOptions
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
  const width = x.shape[1]
  const attended = scope(() => {
    const normed = norm(x, weights.norm1, eps, dtype)
    const qkv = linearLayer(normed, weights.qkv, dtype, deltaOptions(['q', 'k', 'v'], width, normed, rows, injection))
    const z = attention(qkv, rows, { heads, causal })
    const delta = deltaOptions(['out'], width, z, rows, injection)
    return close(z, weights.out, x, rows, dtype, { serial: injection?.afterAttention, delta })
  })
  return scope(() => {
    const normed = norm(attended, weights.norm2, eps, dtype)
    const added = deltaOptions(['fc1'], width, normed, rows, injection)
    const inner = linearLayer(normed, weights.fc1, dtype, { activation, ...added })
    const delta = deltaOptions(['fc2'], width, inner, rows, injection)
    return close(inner, weights.fc2, attended, rows, dtype, { serial: injection?.afterFeedForward, delta })
  })
}
