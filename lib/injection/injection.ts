// The seam: a model is a pure function of (weights, injection). What a method adds, it adds at the points named here.
import type { ExtraKeyValues, LowRank, Rows } from '../ops.js'
import type { Parameter, Tensor } from '../tensor.js'

/** The two towers of a CLIP. */
export type Tower = 'vision' | 'text'

/** Rows of a batch with what some points ask for beside the offsets. */
export interface TokenRows extends Rows {
  /** i32 [M]: the position of each row in its sample */
  readonly positions: Tensor
  /** i32 [B]: names each sample for random draws, however the batch was cut: its number in the batch, or a text's digest */
  readonly keys: Tensor
}

/**
 * A map after a sublayer, before its residual add: z [M, D] (the sublayer's output, compute type) and the residual
 * stream [M, D] (f32) to residual + h(z), f32. R-Adapter's point.
 */
export type SerialMap = (z: Tensor, residual: Tensor, rows: TokenRows) => Tensor

/** What is added to a linear of a block. */
export interface LinearDelta {
  /** deltas by column of this linear */
  readonly lowRank: readonly LowRank[]
  /** f32 [out]: multiplies product and deltas before the bias (DoRA) */
  readonly columnScale?: Tensor
  /** what the deltas read in x's place (dropout): x [M, in] -> [M, in] */
  readonly input?: (x: Tensor, rows: TokenRows) => Tensor
}

/** The linears of a block; q, k and v are named apart even where one product makes them. */
export type LinearName = 'q' | 'k' | 'v' | 'out' | 'fc1' | 'fc2'

/** What is added in one block. An absent entry costs nothing. */
export interface LayerInjection {
  /** deltas of linears (LoRA, DoRA) */
  readonly linears?: { readonly [name in LinearName]?: LinearDelta }
  /** slots beside the tokens' keys and values, for every query (DIKI, prefix tuning) */
  readonly keyValues?: ExtraKeyValues
  /** before the residual add of the block's attention (R-Adapter) */
  readonly afterAttention?: SerialMap
  /** before the residual add of its feed-forward (R-Adapter) */
  readonly afterFeedForward?: SerialMap
}

/** What is added to a model for a call: by tower and layer, at the points of {@link LayerInjection}; the model itself stays as it is. */
export interface Injection {
  /** tensors that stand in for the model's own, by their names on the device (q, k and v of a block are `qkv_proj`) */
  readonly weights?: ReadonlyMap<string, Tensor> | undefined
  /** what is added in a block; undefined: nothing. Asked once for each block of a forward pass */
  layer(tower: Tower, index: number): LayerInjection | undefined
}

/** A method as it is evaluated; dispose when done. */
export interface View extends Injection {
  dispose(): void | Promise<void>
}

/** The part of a method that a trainer works with. */
export interface Method extends Injection {
  /** the name in run files */
  readonly name: string
  /** what must be the same when a run is resumed */
  readonly settings: Readonly<Record<string, unknown>>
  /** what the optimizer updates */
  readonly parameters: readonly Parameter[]
  /** true where weight decay applies: tensors with two or more dimensions, unless the paper says otherwise */
  decays(parameter: Parameter): boolean
  /** Draws what is random in one optimizer step (gates), keyed by (seed, step): the same for every micro-batch. */
  draw(seed: number, step: number): void
  /**
   * The method between the pretrained model (alpha 0) and what was trained (alpha 1), with the running averages of its
   * parameters, by name, when given. Until it is disposed, only the view may be used.
   */
  at(alpha: number, averages?: ReadonlyMap<string, Tensor>): Promise<View>
}
