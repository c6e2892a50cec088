/**
 * Several PEFT adapters over one CLIP, as objects with names: loaded, listed, switched, weighted, mixed in one batch, swapped
 * and deleted, while the model's weights stay as they are. An AdapterSet is an injection: `classify`, `encodeImage`,
 * `evaluate` take it, and see the adapters that are active then. Names and meanings are PEFT's (set_adapter,
 * disable_adapter, delete_adapter, add_weighted_adapter, hotswap_adapter).
 */
import { basename } from 'node:path'
import { requireBase } from '../checkpoint/adapter-file.js'
import { fingerprint } from '../checkpoint/fingerprint.js'
import { CambiumError, fail } from '../errors.js'
import { openPeftAdapter } from '../formats/peft-read.js'
import type { Injection, LayerInjection, Tower } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import type { Tensor } from '../tensor.js'
import { Bank } from './bank.js'
import { type Combination, combineAdapters } from './combine.js'
import { type LoadedAdapter, readAdapter } from './loaded-adapter.js'
import { MixedBatch } from './mixed-batch.js'
import { WeightedView } from './weighted-view.js'

/** What an adapter is called, and which of a folder's it is. */
export interface LoadAdapterOptions {
  /** what it is called from now on; default: the folder's name */
  as?: string
  /** PEFT's folder of an adapter with a name, inside the folder */
  name?: string
}

/** An adapter of a set, as {@link AdapterSet.list} tells it. */
export interface AdapterStatus {
  readonly name: string
  /** undefined for one that was combined from others */
  readonly folder: string | undefined
  readonly kind: 'lora' | 'dora'
  /** numbers of all its tensors */
  readonly parameters: number
  /** linears of the blocks that it changes */
  readonly targets: number
  /** other tensors of the model that it changes, by canonical name */
  readonly changes: readonly string[]
  /** ranks that occur, ascending */
  readonly ranks: readonly number[]
  /** 0 when it is not active */
  readonly weight: number
  readonly warnings: readonly string[]
}

/**
 * Several PEFT adapters over one CLIP by their names, as an injection: `classify`, `encodeImage` and `evaluate` see the active ones.
 * Names and meanings are those of PEFT (set_adapter, add_weighted_adapter, hotswap_adapter). Disposed by whoever made it.
 */
export class AdapterSet implements Injection {
  private readonly adapters = new Map<string, LoadedAdapter>()
  private active: ReadonlyMap<string, number> = new Map()
  private enabled = true
  /** of the model's files, taken once */
  private fingerprint: Promise<string> | undefined
  private view: WeightedView | undefined
  /** what mixed batches have asked for, by the names of its adapters; gone when one of them changes */
  private readonly banks = new Map<string, Bank>()
  private readonly views = new Map<string, WeightedView>()

  constructor(readonly clip: Clip) {}

  /** What the active adapters put in the place of tensors of the model. */
  get weights(): ReadonlyMap<string, Tensor> | undefined {
    return this.enabled ? this.view?.weights : undefined
  }

  layer(tower: Tower, index: number): LayerInjection | undefined {
    return this.enabled ? this.view?.layer(tower, index) : undefined
  }

  /**
   * Reads a PEFT adapter's folder. The first adapter of a set becomes active.
   * @throws E_DUPLICATE for a name in use, E_BASE for an adapter of another base, E_ADAPTER with everything that does not fit,
   *   and those of openPeftAdapter
   */
  async loadAdapter(folder: string, options: LoadAdapterOptions = {}): Promise<AdapterStatus> {
    const name = options.as ?? options.name ?? basename(folder)
    if (this.adapters.has(name)) throw new CambiumError('E_DUPLICATE', `adapters: expected a new name, got ${name} again`)
    const adapter = await this.read(folder, options.name)
    this.adapters.set(name, adapter)
    if (this.adapters.size === 1) await this.setAdapter(name)
    return this.statusOf(name)
  }

  /** Makes an adapter the active one, or several with weights, whose changes add up: `{ cats: 0.7, dogs: 0.3 }`. */
  async setAdapter(active: string | readonly string[] | Readonly<Record<string, number>>): Promise<void> {
    const list: [string, number][] =
      typeof active === 'string' ? [[active, 1]] : Array.isArray(active) ? active.map((name: string) => [name, 1]) : Object.entries(active)
    for (const [name, weight] of list)
      if (!Number.isFinite(weight)) fail('E_OPTION', `setAdapter: weight of ${name}`, 'a finite number', weight)
    const view = await WeightedView.make(
      this.clip,
      list.map(([name, weight]) => [this.get(name), weight]),
    )
    this.view?.dispose()
    this.view = view
    this.active = new Map(list)
  }

  /** The model without adapters, until {@link enableAdapter}. What is active stays chosen. */
  disableAdapter(): void {
    this.enabled = false
  }

  /** Lets what is active take part again. */
  enableAdapter(): void {
    this.enabled = true
  }

  /** Frees an adapter. An active one leaves the others active. */
  async deleteAdapter(name: string): Promise<void> {
    this.get(name)
    if (this.active.has(name)) await this.setAdapter(Object.fromEntries([...this.active].filter(([other]) => other !== name)))
    this.adapters.delete(name)
    this.forget(name)
  }

  /**
   * Puts another adapter, of whatever rank and targets, in the place of a loaded one: its name, weight and use stay. Costs
   * the adapter, not the model. When it cannot be read the old one stays.
   */
  async hotswapAdapter(folder: string, name: string, options: Pick<LoadAdapterOptions, 'name'> = {}): Promise<AdapterStatus> {
    const old = this.get(name)
    this.adapters.set(name, await this.read(folder, options.name))
    try {
      if (this.active.has(name)) await this.setAdapter(Object.fromEntries(this.active))
    } catch (error) {
      this.adapters.set(name, old)
      throw error
    }
    this.forget(name)
    return this.statusOf(name)
  }

  /**
   * A new adapter from loaded ones, which it no longer needs afterwards. `cat`: Σ w ΔW exactly, of the sum of their ranks;
   * `linear`: factors of equal rank, added (PEFT's approximation). Other ways: cambium merge with a recipe.
   * @throws E_DUPLICATE, E_OPTION, E_UNSUPPORTED for DoRA and for adapters that change other tensors
   */
  addWeightedAdapter(names: readonly string[], weights: readonly number[], as: string, combination: Combination = 'cat'): AdapterStatus {
    if (this.adapters.has(as)) throw new CambiumError('E_DUPLICATE', `adapters: expected a new name, got ${as} again`)
    if (weights.length !== names.length) fail('E_OPTION', 'weights', `${names.length} numbers`, weights)
    this.adapters.set(
      as,
      combineAdapters(
        names.map((name, i) => [name, this.get(name), weights[i]]),
        combination,
      ),
    )
    return this.statusOf(as)
  }

  /**
   * A batch whose samples have adapters of their own: one name each, or null for the model itself. Adapters that are deltas
   * of linears run together; DoRA and changes of other tensors run in as many parts as there are such adapters.
   * @throws E_NAME
   */
  async mix(names: readonly (string | null)[]): Promise<MixedBatch> {
    const distinct = [...new Set(names)].filter((name) => name !== null).sort()
    const parts = new Map<string, WeightedView>()
    const together: string[] = []
    for (const name of distinct) {
      const adapter = this.get(name)
      if (isBankable(adapter)) together.push(name)
      else parts.set(name, await this.viewOf(name, adapter))
    }
    return new MixedBatch(this.clip, names, together, together.length > 0 ? this.bankOf(together) : undefined, parts)
  }

  /** All adapters, in the order in which they were loaded. */
  list(): AdapterStatus[] {
    return [...this.adapters.keys()].map((name) => this.statusOf(name))
  }

  /** Frees every adapter, and what mixed batches were made of. */
  dispose(): void {
    this.view?.dispose()
    this.view = undefined
    for (const each of [...this.banks.values(), ...this.views.values()]) each.dispose()
    this.banks.clear()
    this.views.clear()
    this.adapters.clear()
    this.active = new Map()
  }

  private async read(folder: string, name: string | undefined): Promise<LoadedAdapter> {
    const adapter = await openPeftAdapter(folder, { name })
    const { checkpoint } = this.clip.weights
    this.fingerprint ??= fingerprint(checkpoint)
    if (adapter.base !== undefined) await requireBase(adapter.base, checkpoint, adapter.folder, this.fingerprint)
    return readAdapter(this.clip, adapter)
  }

  private get(name: string): LoadedAdapter {
    const adapter = this.adapters.get(name)
    if (adapter !== undefined) return adapter
    return fail('E_NAME', 'adapters', `one of ${[...this.adapters.keys()].join(', ') || 'none'}`, name)
  }

  private bankOf(names: readonly string[]): Bank {
    const key = JSON.stringify(names)
    const bank = this.banks.get(key) ?? new Bank(names.map((name) => this.get(name)))
    this.banks.set(key, bank)
    return bank
  }

  private async viewOf(name: string, adapter: LoadedAdapter): Promise<WeightedView> {
    const made = this.views.get(name) ?? (await WeightedView.make(this.clip, [[adapter, 1]]))
    const other = this.views.get(name)
    if (other !== undefined && other !== made) made.dispose() // another call made it meanwhile
    this.views.set(name, other ?? made)
    return other ?? made
  }

  /** Frees what was made of an adapter for mixed batches. */
  private forget(name: string): void {
    for (const [key, bank] of this.banks) {
      if (!(JSON.parse(key) as string[]).includes(name)) continue
      bank.dispose()
      this.banks.delete(key)
    }
    this.views.get(name)?.dispose()
    this.views.delete(name)
  }

  private statusOf(name: string): AdapterStatus {
    const { folder, sites, changes, parameters, warnings } = this.get(name)
    const all = [...sites.values()]
    return {
      name,
      folder,
      kind: all.some(({ magnitude }) => magnitude !== undefined) ? 'dora' : 'lora',
      parameters,
      targets: sites.size,
      changes: [...changes.keys()],
      ranks: [...new Set(all.map(({ rank }) => rank))].sort((a, b) => a - b),
      weight: this.active.get(name) ?? 0,
      warnings,
    }
  }
}

/** Can one product hold it beside others? A magnitude scales the whole product, and a tensor of the model is one for all. */
function isBankable({ sites, changes }: LoadedAdapter): boolean {
  return changes.size === 0 && [...sites.values()].every(({ magnitude }) => magnitude === undefined)
}
