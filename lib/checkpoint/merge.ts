// Folding an R-Adapter into the weights of a model in memory: an ordinary model of the same size and speed.
import { CambiumError } from '../errors.js'
import { type Factors, LINEAR_BEFORE, type RAdapter, type Site } from '../methods/r-adapter.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import type { Tensor } from '../tensor.js'
import { type MergeOptions, mergedCopy, setMerged } from './merged-copy.js'

export type { MergeOptions } from './merged-copy.js'

/**
 * W_ens = W_org (α W̃ + I) and b_ens = b_org (α W̃ + I), row-vector form (R-Adapter, eq. 6), summed in f64 from the
 * file's weights and rounded once to f32; a second model, `clip` stays as it is.
 * @throws E_OPTION for an α that is not finite, E_MERGE for a result that is not finite
 */
export async function merge(clip: Clip, adapter: RAdapter, options: MergeOptions = {}): Promise<Clip> {
  const { alpha = 0.5, averages } = options
  return mergedCopy(clip, [...adapter.factors()], { ...options, alpha }, async (merged, [key, factors]) => {
    const [tower, layer, site] = key.split('.') as ['vision' | 'text', string, Site]
    const width = clip.config[tower].hiddenSize
    const map = await product(factors, width, averages)
    const name = `${tower}_model.encoder.layers.${layer}.${LINEAR_BEFORE[site]}`
    for (const part of ['weight', 'bias']) await fold(merged, `${name}.${part}`, map, width, alpha)
  })
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
  await setMerged(clip, name, folded)
}
