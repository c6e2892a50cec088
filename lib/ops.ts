// The ops of the native core with names and options. Formulas and types: native/ops/args.h.
import { CambiumError } from './errors.js'
import { type Activation, type DType, type FloatDType, native } from './native.js'
import { Tensor } from './tensor.js'

/**
 * A low-rank delta of a linear (LoRA, Hu et al. 2022): scale · (x Aᵀ Bᵀ + bias), added to the columns
 * [column, column + out') of the product. a, b, bias and scale are f32; a, b and bias may train.
 */
export interface LowRank {
  /** [R, in], or a bank of T adapters [T, R, in] */
  readonly a: Tensor
  /** [out', R], or [T, out', R] */
  readonly b: Tensor
  /** [1], or [T]; in device memory */
  readonly scale: Tensor
  /** default 0 */
  readonly column?: number
  /** [out'], or [T, out'] */
  readonly bias?: Tensor
  /** [M, in], read in x's place (dropout) */
  readonly x?: Tensor
  /** i32 [B]: the adapter of each sample, −1: none. All deltas of one linear share it; needs `rows` */
  readonly index?: Tensor
}

export interface LinearOptions {
  /** [out], f32 */
  bias?: Tensor
  activation?: Activation
  /** added to the result, [M, out]; not together with an activation */
  residual?: Tensor
  /** a second addend, [M, out] */
  skip?: Tensor
  /** f32 scalar that multiplies the product; at zero it is not computed */
  gate?: Tensor
  /** deltas added to the product; not together with a gate */
  lowRank?: readonly LowRank[]
  /** whose rows are whose, when the deltas have an index */
  rows?: Pick<Rows, 'offsets'>
  /** f32 [out]: multiplies the product and its deltas, before the bias (DoRA, Liu et al. 2024); may train */
  columnScale?: Tensor
  /** the weight is [in, out] */
  transposed?: boolean
  dtype?: FloatDType
}

/**
 * y = act(columnScale ∘ (gate · (x Wᵀ) + Σ deltas) + bias) + residual + skip; x [M, in], weight [out, in]. The type of x is
 * that of the products.
 * @throws E_SHAPE, E_DTYPE, E_ARGUMENT; E_INDEX (at the next await) for a sample's adapter outside the bank
 */
export function linear(x: Tensor, weight: Tensor, options: LinearOptions = {}): Tensor {
  const { bias, activation = 'none', residual, skip, gate, transposed = false, dtype = x.dtype as FloatDType } = options
  const { lowRank = [], rows, columnScale } = options
  const index = lowRank.find((delta) => delta.index)?.index
  if (lowRank.some((delta) => delta.index !== index))
    throw new CambiumError('E_ARGUMENT', 'linear: expected one index for all low-rank deltas, got several')
  return new Tensor(
    native.linear(x.id, weight.id, {
      bias: bias?.id,
      gate: gate?.id,
      residual: residual?.id,
      skip: skip?.id,
      lowRank: lowRank.map(({ a, b, scale, column = 0, bias, x }) => ({
        a: a.id,
        b: b.id,
        scale: scale.id,
        column,
        bias: bias?.id,
        x: x?.id,
      })),
      index: index?.id,
      offsets: rows?.offsets.id,
      columnScale: columnScale?.id,
      transposed,
      activation,
      dtype,
    }),
  )
}

/** Layer normalisation over the last dimension (Ba et al. 2016), statistics in f32. */
export function layerNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  eps: number,
  dtype: FloatDType = x.dtype as FloatDType,
): Tensor {
  return new Tensor(native.layerNorm(x.id, weight.id, bias?.id ?? 0, eps, dtype))
}

/** Rows of several samples, one after the other: sample b owns rows [offsets[b], offsets[b+1]). */
export interface Rows {
  /** i32 [B+1] on the device */
  offsets: Tensor
  batch: number
  maxTokens: number
}

/**
 * l extra keys and values that every query of a sample sees, whatever the mask, in the space of k and v (D = H·K, split
 * into heads as they are); no query stands there, so a sample grows no longer. Keys and values may train.
 */
export interface ExtraKeyValues {
  /** f32 [T, l, D]: of T tasks */
  readonly keys: Tensor
  /** f32 [T, l, D] */
  readonly values: Tensor
  /**
   * 'separate' (default): y += weight · softmax(q Krᵀ/√K) Vr, a softmax of its own (DIKI, Tang et al. 2024). 'joint': one
   * softmax over slots and tokens (prefix tuning, Li & Liang 2021)
   */
  readonly softmax?: 'separate' | 'joint'
  /** i32 [B]: the task of each sample; absent: 0 */
  readonly index?: Tensor
  /** f32 [B], separate only; absent: 1. A sample with weight 0 has the bits of attention without extra keys. No gradient */
  readonly weight?: Tensor
}

export interface AttentionOptions {
  readonly heads: number
  readonly causal?: boolean
  readonly extra?: ExtraKeyValues
}

const nativeExtra = (extra?: ExtraKeyValues) =>
  extra && {
    keys: extra.keys.id,
    values: extra.values.id,
    index: extra.index?.id,
    weight: extra.weight?.id,
    joint: extra.softmax === 'joint',
  }

/**
 * Ragged multi-head attention: qkv [M, 3D] -> [M, D]; softmax scale 1/√K.
 * @throws E_SHAPE, E_DTYPE, E_ARGUMENT; E_INDEX (at the next await) for a task outside the extra keys
 */
export function attention(qkv: Tensor, rows: Rows, options: AttentionOptions): Tensor {
  const { heads, causal = false, extra } = options
  return new Tensor(native.attention(qkv.id, rows.offsets.id, heads, rows.maxTokens, causal, nativeExtra(extra)))
}

/**
 * The rows of {@link attention}'s result that one query of each sample has: q [B, D], kv [M, 2D] (k beside v) -> [B, D].
 * @param row i32 [B]: the row of kv at which each query stands; causal: it sees keys up to there
 * @throws E_INDEX (at the next await) for a row outside its sample, or a task outside the extra keys
 */
export function pooledAttention(q: Tensor, kv: Tensor, rows: Rows, row: Tensor, options: AttentionOptions): Tensor {
  const { heads, causal = false, extra } = options
  return new Tensor(native.pooledAttention(q.id, kv.id, rows.offsets.id, row.id, heads, causal, nativeExtra(extra)))
}

/** pixels [B, C, H, W] -> [B·N, C·p·p], each row in (channel, row, column) order. */
export function patchify(pixels: Tensor, patch: number, dtype: FloatDType): Tensor {
  return new Tensor(native.patchify(pixels.id, patch, dtype))
}

/** Puts a class token before the patches of each sample and adds positions [N+1, D]: [B·N, D] -> [B·(N+1), D], f32. */
export function classTokens(x: Tensor, cls: Tensor, position: Tensor, batch: number): Tensor {
  return new Tensor(native.classTokens(x.id, cls.id, position.id, batch))
}

/** table[ids] + position[positions]: [M, D], f32. @throws E_INDEX (at the next await) for an id outside the table */
export function tokenEmbed(ids: Tensor, positions: Tensor, table: Tensor, position: Tensor): Tensor {
  return new Tensor(native.tokenEmbed(ids.id, positions.id, table.id, position.id))
}

/** Rows of x by index (i32): [M, D]. */
export function gatherRows(x: Tensor, index: Tensor): Tensor {
  return new Tensor(native.gatherRows(x.id, index.id))
}

/** y[i] = x[i] · factor[⌊i / repeat⌋ mod factors]; no gradient to the factors. */
export function scaleRows(x: Tensor, factor: Tensor, repeat = 1): Tensor {
  return new Tensor(native.scaleRows(x.id, factor.id, repeat))
}

/** Rows divided by their Euclidean norm, f32. */
export function l2Normalize(x: Tensor): Tensor {
  return new Tensor(native.l2Normalize(x.id))
}

export interface ContrastiveOptions {
  /** i32 [N]: rows with equal labels are positives of each other */
  labels: Tensor
  /** f32 scalar: 1/τ, or with `logScale` its logarithm (CLIP's logit_scale) */
  scale: Tensor
  logScale?: boolean
  margin?: number
  epsilon?: number
}

/** Symmetric multi-positive contrastive loss of normalised features [N, P]; one N×N array. Scalar. */
export function contrastive(image: Tensor, text: Tensor, options: ContrastiveOptions): Tensor {
  const { labels, scale, logScale = false, margin = 0, epsilon = 0 } = options
  return new Tensor(native.contrastive(image.id, text.id, labels.id, scale.id, logScale, margin, epsilon))
}

export interface CrossEntropyOptions {
  /** i32 [N]: the class of each row; or else `teacher` */
  labels?: Tensor
  /** f32 [N, C]: logits of a teacher, a constant to the gradient */
  teacher?: Tensor
  /** f32 scalar that multiplies logits and teacher, or with `logScale` its logarithm (CLIP's logit_scale); may train */
  scale?: Tensor
  logScale?: boolean
  /** of labels: targets (1 − ε)·onehot + ε/C (Szegedy et al. 2016). Default 0 */
  smoothing?: number
  /** T divides logits and teacher, and T² multiplies the loss (Hinton et al. 2015). Default 1 */
  temperature?: number
}

/**
 * Mean cross entropy of logits [N, C], f32, against labels or the softmax of a teacher: T² · CE(target, softmax(s · logits/T)).
 * Scalar. Logits of features are `linear(image, text, { dtype: 'f32' })`.
 * @throws E_SHAPE, E_DTYPE, E_ARGUMENT; E_INDEX (at the next await) for a label that is no class
 */
export function crossEntropy(logits: Tensor, options: CrossEntropyOptions): Tensor {
  const { labels, teacher, scale, logScale = false, smoothing = 0, temperature = 1 } = options
  return new Tensor(
    native.crossEntropy(logits.id, { labels: labels?.id, teacher: teacher?.id, scale: scale?.id, logScale, smoothing, temperature }),
  )
}

/** factor · Σ x, a scalar. */
export const sum = (x: Tensor, factor = 1): Tensor => new Tensor(native.sum(x.id, factor))
export const add = (a: Tensor, b: Tensor, dtype: FloatDType = 'f32'): Tensor => new Tensor(native.add(a.id, b.id, dtype))
export const multiply = (a: Tensor, b: Tensor, dtype: FloatDType = 'f32'): Tensor => new Tensor(native.multiply(a.id, b.id, dtype))
/** s · x for a scalar tensor s. */
export const scale = (x: Tensor, s: Tensor): Tensor => new Tensor(native.scale(x.id, s.id))
export const reshape = (x: Tensor, shape: readonly number[]): Tensor => new Tensor(native.reshape(x.id, shape))
/** Rows [first, first + count) of x, the first of its dimensions, in x's own memory. @throws E_SHAPE outside x */
export const sliceRows = (x: Tensor, first: number, count: number): Tensor => new Tensor(native.sliceRows(x.id, first, count))
/** Between f32, bf16 and f16, to nearest even. */
export const cast = (x: Tensor, dtype: DType): Tensor => new Tensor(native.cast(x.id, dtype))
/** (1 − t)·a + t·b in f32, rounded once. No gradient. */
export const interpolate = (a: Tensor, b: Tensor, t: number, dtype: DType): Tensor => new Tensor(native.interpolate(a.id, b.id, t, dtype))
/** Puts matrices of one width and type under each other: [Σ M, D]. */
export const concatRows = (parts: readonly Tensor[]): Tensor => new Tensor(native.concatRows(parts.map((part) => part.id)))

export interface DropoutKeys {
  /** i32 [B]: what names each sample, whatever its place in the batch */
  keys: Tensor
  /** i32 [3] in device memory: step, and the low and high half of the seed */
  state: Tensor
  /** one number for each place that drops */
  site: number
}

/** x ∘ keep / (1 − p), keep ~ Bernoulli(1 − p) by element, drawn by (seed, step, site, key of the sample, place in it). */
export function dropout(x: Tensor, rows: Pick<Rows, 'offsets'>, p: number, { keys, state, site }: DropoutKeys): Tensor {
  return new Tensor(native.dropout(x.id, rows.offsets.id, keys.id, state.id, site, p))
}

/**
 * ‖W_i + scale · (B A)_i‖ of the rows [row, row + rows) of a matrix W [*, in], or their inverses: f32 [rows]. Without
 * a delta, ‖W_i‖. No gradient.
 */
export function lowRankNorm(
  w: Tensor,
  options: { delta?: Pick<LowRank, 'a' | 'b' | 'scale'>; row?: number; rows?: number; inverse?: boolean } = {},
): Tensor {
  const { delta, row = 0, rows = w.shape[0] - row, inverse = false } = options
  return new Tensor(native.lowRankNorm(w.id, delta?.a.id ?? 0, delta?.b.id ?? 0, delta?.scale.id ?? 0, row, rows, inverse))
}
