/** One adapter from several, by their factors (PEFT's add_weighted_adapter). */
import { CambiumError } from '../errors.js'
import type { LoadedAdapter } from './loaded-adapter.js'
import type { Site, SiteFactors } from './sites.js'

/**
 * `cat`: Σ w ΔW exactly, of the sum of the ranks; `linear`: factors of equal rank, each weighted by √(w s) and added (PEFT's
 * approximation).
 */
export type Combination = 'cat' | 'linear'

type Weighted = readonly (readonly [SiteFactors, number])[]

/**
 * @param list names, adapters and their weights
 * @throws E_OPTION for another combination, E_UNSUPPORTED for adapters that are no sums of deltas, or of unequal rank for `linear`
 */
export function combineAdapters(list: readonly (readonly [string, LoadedAdapter, number])[], combination: Combination): LoadedAdapter {
  if (combination !== 'cat' && combination !== 'linear')
    throw new CambiumError(
      'E_OPTION',
      `combination: expected cat or linear (others by a recipe of cambium merge), got ${String(combination)}`,
    )
  if (list.length === 0) throw new CambiumError('E_OPTION', 'adapters: expected at least one to combine, got none')
  for (const [name, { sites, changes }, weight] of list) {
    if (!Number.isFinite(weight)) throw new CambiumError('E_OPTION', `weights: expected finite numbers, got ${weight}`)
    const isDora = [...sites.values()].some(({ magnitude }) => magnitude !== undefined)
    if (isDora || changes.size > 0)
      throw new CambiumError(
        'E_UNSUPPORTED',
        `${name}: expected deltas of linears alone to combine, got ${isDora ? 'DoRA' : `changes of ${[...changes.keys()][0]}`}; setAdapter takes weights`,
      )
  }
  const sites = new Map<Site, SiteFactors>()
  for (const site of new Set(list.flatMap(([, adapter]) => [...adapter.sites.keys()]))) {
    const own = list.flatMap(([, adapter, weight]): [SiteFactors, number][] => {
      const factors = adapter.sites.get(site)
      return factors === undefined ? [] : [[factors, weight * factors.scaling]]
    })
    sites.set(site, combination === 'cat' ? concatenated(own) : added(own, site))
  }
  const count = ({ a, b, bias }: SiteFactors) => a.length + b.length + (bias?.length ?? 0)
  const parameters = [...sites.values()].reduce((sum, factors) => sum + count(factors), 0)
  return { folder: undefined, sites, changes: new Map(), parameters, warnings: [] }
}

/** A = [w s A; …], B = [B, …], as PEFT places the weights. */
function concatenated(list: Weighted): SiteFactors {
  const { in: width, out } = list[0][0]
  const rank = list.reduce((sum, [factors]) => sum + factors.rank, 0)
  const [a, b] = [new Float32Array(rank * width), new Float32Array(out * rank)]
  let first = 0
  for (const [factors, weight] of list) {
    a.set(
      factors.a.map((value) => value * weight),
      first * width,
    )
    for (let row = 0; row < out; row++) b.set(factors.b.subarray(row * factors.rank, (row + 1) * factors.rank), row * rank + first)
    first += factors.rank
  }
  return { rank, in: width, out, scaling: 1, a, b, ...summedBias(list, out) }
}

/** A = Σ ±√|w s| A, B = Σ √|w s| B: not the sum of the products, but what PEFT does. */
function added(list: Weighted, site: Site): SiteFactors {
  const { rank, in: width, out } = list[0][0]
  const other = list.find(([factors]) => factors.rank !== rank)
  if (other !== undefined)
    throw new CambiumError('E_UNSUPPORTED', `linear: expected adapters of equal rank, got ${rank} and ${other[0].rank} (${site}); use cat`)
  const [a, b] = [new Float32Array(rank * width), new Float32Array(out * rank)]
  for (const [factors, weight] of list) {
    const root = Math.sqrt(Math.abs(weight))
    for (let i = 0; i < a.length; i++) a[i] += Math.sign(weight) * root * factors.a[i]
    for (let i = 0; i < b.length; i++) b[i] += root * factors.b[i]
  }
  return { rank, in: width, out, scaling: 1, a, b, ...summedBias(list, out) }
}

function summedBias(list: Weighted, out: number): { bias?: Float32Array } {
  if (!list.some(([{ bias }]) => bias)) return {}
  const bias = new Float32Array(out)
  for (const [factors, weight] of list) if (factors.bias) for (let i = 0; i < out; i++) bias[i] += weight * factors.bias[i]
  return { bias }
}
