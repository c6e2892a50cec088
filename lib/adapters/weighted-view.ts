/** Adapters on the device, summed with weights, as an injection for whole batches. */
import { concatArrays } from '../concat-arrays.js'
import type { Injection, LayerInjection, LinearDelta, Tower } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { placeOf } from '../models/weights.js'
import { native } from '../native.js'
import { cast, type LowRank, lowRankNorm } from '../ops.js'
import { Parameter, scope, Tensor } from '../tensor.js'
import type { LoadedAdapter } from './loaded-adapter.js'
import { HeldTensors, layerOf, type Site, type SiteFactors } from './sites.js'

/** Some adapters at once: every delta times its weight, the changes of other tensors too. */
export class WeightedView implements Injection {
  readonly weights = new Map<string, Tensor>()
  private readonly sites = new Map<Site, LinearDelta>()
  private readonly held = new HeldTensors()

  private constructor() {}

  /** @param active adapters and their weights; a weight of zero is left out */
  static async make(clip: Clip, active: readonly (readonly [LoadedAdapter, number])[]): Promise<WeightedView> {
    const view = new WeightedView()
    try {
      const used = active.filter(([, weight]) => weight !== 0)
      for (const site of new Set(used.flatMap(([adapter]) => [...adapter.sites.keys()]))) await view.addSite(clip, site, used)
      await view.addChanges(clip, used)
      return view
    } catch (error) {
      view.dispose()
      throw error
    }
  }

  layer(tower: Tower, index: number): LayerInjection | undefined {
    return layerOf(this.sites, (delta) => delta, tower, index)
  }

  dispose(): void {
    this.held.dispose()
  }

  /**
   * y = C ∘ (x Wᵀ + Σ w s (f / C) ∘ (x Aᵀ Bᵀ + b)): f is 1 for LoRA, m / ‖W + s B A‖ for DoRA, C = 1 + Σ w (f − 1). With
   * one DoRA of weight 1 that is C = f and its own B; of several, PEFT's sum of their differences to the base.
   */
  private async addSite(clip: Clip, site: Site, used: readonly (readonly [LoadedAdapter, number])[]): Promise<void> {
    const parts: { factors: SiteFactors; weight: number; f?: Float32Array }[] = []
    for (const [adapter, weight] of used) {
      const factors = adapter.sites.get(site)
      if (factors !== undefined) parts.push({ factors, weight, f: factors.magnitude && (await magnitudes(clip, site, factors)) })
    }
    const { out } = parts[0].factors
    const isDora = parts.some(({ f }) => f !== undefined)
    const c = new Float32Array(out).fill(1)
    for (const { weight, f } of parts) if (f) for (let i = 0; i < out; i++) c[i] += weight * (f[i] - 1)
    const lowRank = parts.map(({ factors: { a, b, bias, rank, in: width, scaling }, weight, f }): LowRank => {
      const byRow = (values: Float32Array, count: number) =>
        isDora && !(parts.length === 1 && weight === 1)
          ? values.map((value, i) => (value * (f?.[Math.floor(i / count)] ?? 1)) / c[Math.floor(i / count)])
          : values
      return {
        a: this.held.floats(a, [rank, width]),
        b: this.held.floats(byRow(b, rank), [out, rank]),
        scale: this.held.floats(Float32Array.of(weight * scaling), [1]),
        ...(bias && { bias: this.held.floats(byRow(bias, 1), [out]) }),
      }
    })
    this.sites.set(site, { lowRank, ...(isDora && { columnScale: this.held.floats(c, [out]) }) })
  }

  /** W + Σ w (W_adapter − W), packed as the model holds it. */
  private async addChanges(clip: Clip, used: readonly (readonly [LoadedAdapter, number])[]): Promise<void> {
    const changed = new Set(used.flatMap(([adapter]) => [...adapter.changes.keys()]))
    for (const name of new Set([...changed].map((canonical) => placeOf(canonical).name))) {
      const parts: Float32Array[] = []
      for (const canonical of clip.weights.canonical(name)) parts.push(await changedTensor(clip, canonical, used))
      const whole = concatArrays(Float32Array, parts)
      const { shape, dtype } = clip.weights.get(name)
      const tensor = this.held.keep(Parameter.named(name, dtype === 'f32' ? whole : null, shape, dtype))
      if (dtype !== 'f32') scope(() => copyRounded(whole, tensor))
      this.weights.set(name, tensor)
    }
  }
}

function copyRounded(values: Float32Array, into: Parameter): void {
  native.copy(cast(Tensor.from(values, into.shape), into.dtype).id, into.id)
}

async function changedTensor(clip: Clip, canonical: string, used: readonly (readonly [LoadedAdapter, number])[]): Promise<Float32Array> {
  const base = await clip.weights.exact(canonical)
  const sum = Float64Array.from(base)
  for (const [adapter, weight] of used) {
    const changes = adapter.changes.get(canonical)
    if (changes === undefined) continue
    let own = base
    for (const change of changes) own = await change(own)
    if (used.length === 1 && weight === 1) return own
    for (let i = 0; i < sum.length; i++) sum[i] += weight * (own[i] - base[i])
  }
  return Float32Array.from(sum)
}

/** m / ‖W + s B A‖ of the model's own weight. */
async function magnitudes(clip: Clip, site: Site, { a, b, rank, in: width, out, scaling, magnitude }: SiteFactors): Promise<Float32Array> {
  const { name, third = 0 } = placeOf(`${site}.weight`)
  const inverse = scope(() => {
    const delta = { a: Tensor.from(a, [rank, width]), b: Tensor.from(b, [out, rank]), scale: Tensor.scalar(scaling) }
    return lowRankNorm(clip.weights.get(name), { delta, row: third * out, rows: out, inverse: true })
  })
  try {
    return (await inverse.floats()).map((value, i) => value * (magnitude?.[i] ?? 0))
  } finally {
    inverse.dispose()
  }
}
