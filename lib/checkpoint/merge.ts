// Folding an adapter into the weights: an ordinary model of the same size and speed.
import { CambiumError } from '../errors.js'
import type { Factors, RAdapter } from '../methods/r-adapter.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import type { Tensor } from '../tensor.js'

export interface MergeOptions {
  /** 0: the pretrained model, 1: what was trained (R-Adapter's paper: 0.5) */
  alpha?: number
  /** running averages of the factors, by parameter name, in their place */
  averages?: ReadonlyMap<string, Tensor>
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void
}

/** Where the linear before an adapter stands in its block. */
const BEFORE = { after_attention: 'self_attn.out_proj', after_mlp: 'mlp.fc2' } as const

/**
 * W_ens = W_org (α W̃ + I) and b_ens = b_org (α W̃ + I), row-vector form (R-Adapter, eq. 6), summed in f64 from the
 * file's weights and rounded once to f32; a second model, `clip` stays as it is.
 * @throws E_OPTION for an α that is not finite, E_MERGE for a result that is not finite
 */
export async function merge(clip: Clip, adapter: RAdapter, options: MergeOptions = {}): Promise<Clip> {
  const { alpha = 0.5, averages, signal, onProgress } = options
  if (!Number.isFinite(alpha)) throw new CambiumError('E_OPTION', `alpha: expected a finite number, got ${alpha}`)
  const merged = await clip.reload()
  try {
    const all = [...adapter.factors()]
    for (const [done, [key, factors]] of all.entries()) {
      signal?.throwIfAborted()
      const [tower, layer, site] = key.split('.') as ['vision' | 'text', string, keyof typeof BEFORE]
      const width = clip.config[tower].hiddenSize
      if (alpha !== 0) {
        const map = await product(factors, width, averages)
        const name = `${tower}_model.encoder.layers.${layer}.${BEFORE[site]}`
        for (const part of ['weight', 'bias']) await fold(merged, `${name}.${part}`, map, width, alpha)
      }
      onProgress?.(done + 1, all.length)
    }
    return merged
  } catch (error) {
    merged.dispose()
    throw error
  }
}

/** W̃ = s · B A, or W itself: [D, D] in row-vector form. */
async function product(
  factors: { readonly [name in keyof Factors]: Tensor & { name: string } },
  width: number,
  averages?: ReadonlyMap<string, Tensor>,
): Promise<{ w: Float32Array; s: number }> {
  const values = (t: Tensor & { name: string }) => (averages?.get(t.name) ?? t).floats()
  const s = factors.s ? (await values(factors.s))[0] : 1
  if (factors.w) return { w: await values(factors.w), s }
  if (!factors.a || !factors.b) throw new CambiumError('E_ADAPTER', 'merge: expected factors w, or b and a, got neither')
  const [b, a] = [await values(factors.b), await values(factors.a)]
  return { w: await native.product({ a: b, b: a, m: width, k: a.length / width, n: width }), s }
}

/** [out, in] layout: W + α s W̃ᵀ W; a bias is one column. */
async function fold(clip: Clip, name: string, { w, s }: { w: Float32Array; s: number }, width: number, alpha: number): Promise<void> {
  const original = await clip.weights.original(name)
  const folded = await native.product({
    a: w,
    transposeA: true,
    b: original,
    m: width,
    k: width,
    n: original.length / width,
    alpha: alpha * s,
    add: original,
  })
  if (!folded.every(Number.isFinite)) throw new CambiumError('E_MERGE', `${name}: expected a finite result, got NaN or infinity`)
  await clip.weights.set(name, folded)
}
