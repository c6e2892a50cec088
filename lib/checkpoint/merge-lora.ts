// Folding a LoRA into the weights of a model in memory: W + α s B A (less the start that PiSSA and OLoRA take off), with DoRA
// m_α / ‖W + α s B A‖ times that, m_α between ‖W‖ and m; biases b + α s b_lora. Sums in f64, one rounding to f32.
import type { Lora } from '../methods/lora.js'
import { currentFactors, type LoraModule } from '../methods/lora-module.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import type { Tensor } from '../tensor.js'
import { type MergeOptions, mergedCopy, setMerged } from './merged-copy.js'

/**
 * A second model, `clip` stays as it is. α = 1: what was trained.
 * @throws E_OPTION for an α that is not finite, E_MERGE for a result that is not finite
 */
export async function mergeLora(clip: Clip, lora: Lora, options: MergeOptions = {}): Promise<Clip> {
  const { alpha = 1, averages } = options
  return mergedCopy(clip, lora.modules, { ...options, alpha }, (merged, module) => fold(merged, module, alpha, averages))
}

async function fold(clip: Clip, module: LoraModule, alpha: number, averages?: ReadonlyMap<string, Tensor>): Promise<void> {
  const { a, b, bias, magnitude } = currentFactors(module, averages)
  const original = await clip.weights.original(`${module.module}.weight`)
  const factor = alpha * module.scaling
  let weight = await plus(original, module, b, a, factor)
  if (module.start) weight = await plus(weight, module, module.start.b, module.start.a, -factor)
  if (magnitude) scaleRows(weight, original, await magnitude.floats(), alpha)
  await setMerged(clip, `${module.module}.weight`, weight)
  if (!bias) return
  const [base, delta] = [await clip.weights.original(`${module.module}.bias`), await bias.floats()]
  await setMerged(
    clip,
    `${module.module}.bias`,
    base.map((value, i) => value + factor * delta[i]),
  )
}

async function plus(add: Float32Array, { in: n, out: m, rank: k }: LoraModule, b: Tensor, a: Tensor, alpha: number): Promise<Float32Array> {
  return native.product({ a: await b.floats(), b: await a.floats(), m, k, n, alpha, add })
}

/** Rows of V to length m_α, in place. */
function scaleRows(v: Float32Array, original: Float32Array, m: Float32Array, alpha: number): void {
  const width = v.length / m.length
  const norm = (w: Float32Array, row: number) => Math.sqrt(w.subarray(row * width, (row + 1) * width).reduce((sum, x) => sum + x * x, 0))
  for (let row = 0; row < m.length; row++) {
    const start = norm(original, row)
    const factor = (start + alpha * (m[row] - start)) / norm(v, row)
    for (let i = row * width; i < (row + 1) * width; i++) v[i] *= factor
  }
}
