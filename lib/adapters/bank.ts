/** A bank of adapters on the device, from which each sample of a batch takes its own. */
import type { Injection } from '../injection/injection.js'
import type { LowRank } from '../ops.js'
import type { Tensor } from '../tensor.js'
import type { LoadedAdapter } from './loaded-adapter.js'
import { HeldTensors, layerOf, type Site } from './sites.js'

/** A bank of T adapters without magnitudes: sample b takes the deltas of adapter index[b], or none where it is −1. */
export class Bank {
  private readonly sites = new Map<Site, LowRank>()
  private readonly held = new HeldTensors()

  constructor(readonly adapters: readonly LoadedAdapter[]) {
    for (const site of new Set(adapters.flatMap((adapter) => [...adapter.sites.keys()]))) this.addSite(site)
  }

  /** For a batch with these adapters. @param index i32 [B] on the device */
  injection(index: Tensor): Injection {
    return { layer: (tower, i) => layerOf(this.sites, (delta) => ({ lowRank: [{ ...delta, index }] }), tower, i) }
  }

  dispose(): void {
    this.held.dispose()
  }

  /** Ranks are filled up with zeros; an adapter that leaves the site alone is zeros. */
  private addSite(site: Site): void {
    const own = this.adapters.map((adapter) => adapter.sites.get(site))
    const some = own.filter((factors) => factors !== undefined)
    const { in: width, out } = some[0]
    const rank = Math.max(...some.map((factors) => factors.rank))
    const count = own.length
    const [a, b] = [new Float32Array(count * rank * width), new Float32Array(count * out * rank)]
    const [scale, bias] = [new Float32Array(count), new Float32Array(count * out)]
    for (const [t, factors] of own.entries()) {
      if (factors === undefined) continue
      a.set(factors.a, t * rank * width)
      for (let row = 0; row < out; row++) b.set(factors.b.subarray(row * factors.rank, (row + 1) * factors.rank), (t * out + row) * rank)
      scale[t] = factors.scaling
      if (factors.bias) bias.set(factors.bias, t * out)
    }
    this.sites.set(site, {
      a: this.held.floats(a, [count, rank, width]),
      b: this.held.floats(b, [count, out, rank]),
      scale: this.held.floats(scale, [count]),
      ...(some.some((factors) => factors.bias) && { bias: this.held.floats(bias, [count, out]) }),
    })
  }
}
