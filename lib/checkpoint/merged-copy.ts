/** A second model with something folded into its weights, and what every such merging is asked for. */
import { CambiumError } from '../errors.js'
import type { Clip } from '../models/clip.js'
import type { Tensor } from '../tensor.js'

/** How an adapter is folded into a copy of its model. */
export interface MergeOptions {
  /** 0: the pretrained model, 1: what was trained. Default 0.5 for an R-Adapter, as in its paper, and 1 for a LoRA */
  alpha?: number
  /** running averages of the factors, by parameter name, in their place */
  averages?: ReadonlyMap<string, Tensor>
  /** stops between two tensors, with its reason */
  signal?: AbortSignal
  /** parts of the adapter folded so far */
  onProgress?: (done: number, total: number) => void
}

/**
 * The same files once more, with each part folded in; none for α = 0. `clip` stays as it is.
 * @throws E_OPTION for an α that is not finite, the signal's reason when aborted, what `fold` throws
 */
export async function mergedCopy<P>(
  clip: Clip,
  parts: readonly P[],
  { alpha, signal, onProgress }: MergeOptions & { alpha: number },
  fold: (merged: Clip, part: P) => Promise<void>,
): Promise<Clip> {
  if (!Number.isFinite(alpha)) throw new CambiumError('E_OPTION', `alpha: expected a finite number, got ${alpha}`)
  const merged = await clip.reload()
  try {
    for (const [done, part] of parts.entries()) {
      signal?.throwIfAborted()
      if (alpha !== 0) await fold(merged, part)
      onProgress?.(done + 1, parts.length)
    }
    return merged
  } catch (error) {
    merged.dispose()
    throw error
  }
}

/** @throws E_MERGE for values that are not finite */
export async function setMerged(clip: Clip, name: string, values: Float32Array): Promise<void> {
  if (!values.every(Number.isFinite)) throw new CambiumError('E_MERGE', `${name}: expected a finite result, got NaN or infinity`)
  await clip.weights.set(name, values)
}
