// The pre-norm transformer block, written once: x += out(attention(norm1 x)); x += fc2(act(fc1(norm2 x))). It names the
// points of the injection seam. Where only one row of each sample is read afterwards, only keys and values are computed for
// all rows, and everything else for that row: the same numbers for less work.
import type { LayerInjection, LinearName, SerialMap, TokenRows } from '../injection/injection.js'
import type { Activation, FloatDType } from '../native.js'
import { attention, gatherRows, pooledAttention, sliceRows } from '../ops.js'
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

/** The one row of each sample that is read after a block. */
export interface PooledRows {
  /** i32 [B]: the row of x */
  readonly index: Tensor
  /** the rows by themselves, one a sample */
  readonly rows: TokenRows
}

/** Attention before its output projection: of every row of x [M, D], or of `kept` [B, D] alone. */
function attend(x: Tensor, kept: Tensor, block: Block, injection?: LayerInjection): Tensor {
  const { weights, options, rows, pooled } = block
  const width = x.shape[1]
  const project = (from: Tensor, of: TokenRows, names: LinearName[], linear: LinearWeights) => {
    const normed = norm(from, weights.norm1, options.eps, options.dtype)
    return linearLayer(normed, linear, options.dtype, deltaOptions(names, width, normed, of, injection))
  }
  const { heads, causal } = options
  const extra = injection?.keyValues
  if (!pooled) return attention(project(x, rows, ['q', 'k', 'v'], weights.qkv), rows, { heads, causal, extra })
  const q = project(kept, pooled.rows, ['q'], part(weights.qkv, 0, width))
  const kv = project(x, rows, ['k', 'v'], part(weights.qkv, width, 2 * width))
  return pooledAttention(q, kv, rows, pooled.index, { heads, causal, extra })
}

/** Some of the outputs of a linear. */
function part({ weight, bias }: LinearWeights, first: number, count: number): LinearWeights {
  return { weight: sliceRows(weight, first, count), bias: bias && sliceRows(bias, first, count) }
}

/** One block of a tower, over the rows of a batch. */
export interface Block {
  readonly weights: BlockWeights
  readonly options: BlockOptions
  readonly rows: TokenRows
  readonly pooled?: PooledRows
}

/** x [M, D] f32 -> [M, D] f32, or with `pooled` [B, D]. */
export function transformerBlock(x: Tensor, block: Block, injection?: LayerInjection): Tensor {
  return scope(() => feedForward(attentionLayer(x, block, injection), block, injection))
}

function attentionLayer(x: Tensor, block: Block, injection?: LayerInjection): Tensor {
  const { weights, options, pooled } = block
  const rows = pooled?.rows ?? block.rows
  return scope(() => {
    const kept = pooled ? gatherRows(x, pooled.index) : x
    const z = attend(x, kept, block, injection)
    const delta = deltaOptions(['out'], x.shape[1], z, rows, injection)
    return close(z, weights.out, kept, rows, options.dtype, { serial: injection?.afterAttention, delta })
  })
}

function feedForward(x: Tensor, block: Block, injection?: LayerInjection): Tensor {
  const { weights, options, pooled } = block
  const { eps, activation, dtype } = options
  const rows = pooled?.rows ?? block.rows
  const width = x.shape[1]
  return scope(() => {
    const normed = norm(x, weights.norm2, eps, dtype)
    const added = deltaOptions(['fc1'], width, normed, rows, injection)
    const inner = linearLayer(normed, weights.fc1, dtype, { activation, ...added })
    const delta = deltaOptions(['fc2'], width, inner, rows, injection)
    return close(inner, weights.fc2, x, rows, dtype, { serial: injection?.afterFeedForward, delta })
  })
}
