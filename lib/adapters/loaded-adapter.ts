/**
 * A PEFT adapter in memory, taken apart by how it is applied to a CLIP: deltas of linears of the blocks go through the seam;
 * whatever else it changes (the patch embedding, the projections, the token table, biases, whole tensors) is a change of that
 * tensor of the model.
 */

import { CambiumError } from '../errors.js'
import { clipTensors } from '../formats/clip-tensors.js'
import type { PeftAdapter, PlacedTarget, PlacedTensor } from '../formats/peft-adapter.js'
import { placeAdapter } from '../formats/peft-place.js'
import type { StoredTensor } from '../formats/safetensors-read.js'
import { storedFloats } from '../formats/stored-floats.js'
import { moduleOfWeight } from '../injection/linear-modules.js'
import type { Clip } from '../models/clip.js'
import { foldInto, type TensorChange } from './fold.js'
import type { Site, SiteFactors } from './sites.js'

export interface LoadedAdapter {
  /** undefined for one that was combined from others */
  readonly folder: string | undefined
  readonly sites: ReadonlyMap<Site, SiteFactors>
  /** by canonical name */
  readonly changes: ReadonlyMap<string, readonly TensorChange[]>
  /** elements of all its tensors */
  readonly parameters: number
  readonly warnings: readonly string[]
}

/**
 * Reads an adapter's tensors.
 * @throws E_ADAPTER for targets that the model does not have (all of them listed), tensors of another shape than the model's
 *   or that it has no place for
 */
export async function readAdapter(clip: Clip, adapter: PeftAdapter): Promise<LoadedAdapter> {
  const { targets, saved, extra } = placeAdapter(adapter, clipTensors(clip.config))
  const strange = [...extra.keys(), ...saved.filter(({ reshaped }) => reshaped).map(({ at }) => at.source)]
  if (strange.length > 0)
    throw new CambiumError(
      'E_ADAPTER',
      `${adapter.folder}: expected tensors that the model has, got ${strange.join(', ')}. Merging can add them`,
    )
  const sites = new Map<Site, SiteFactors>()
  const changes = new Map<string, TensorChange[]>()
  const change = (name: string, apply: TensorChange) => changes.set(name, [...(changes.get(name) ?? []), apply])
  let parameters = 0
  for (const { tensor, at } of saved) {
    parameters += tensor.count
    change(at.source, await replacement(tensor, at))
  }
  for (const target of targets) {
    const factors = await readFactors(target)
    const { a, b, bias, magnitude } = factors
    parameters += a.length + b.length + (bias?.length ?? 0) + (magnitude?.length ?? 0)
    const site = target.kind === 'linear' ? moduleOfWeight(target.weight.source) : undefined
    if (site !== undefined) sites.set(site, factors)
    else for (const [name, apply] of foldInto(target, factors)) change(name, apply)
  }
  return { folder: adapter.folder, sites, changes, parameters, warnings: adapter.warnings }
}

async function replacement(tensor: StoredTensor, at: PlacedTensor['at']): Promise<TensorChange> {
  const values = await storedFloats(tensor)
  return (base) => {
    if (at.rows === undefined) return Promise.resolve(values)
    const whole = base.slice()
    whole.set(values, (at.rows.index * base.length) / at.rows.of)
    return Promise.resolve(whole)
  }
}

async function readFactors({ a, b, bias, magnitude, rank, scaling }: PlacedTarget): Promise<SiteFactors> {
  return {
    rank,
    scaling,
    in: a.count / rank,
    out: b.count / rank,
    a: await storedFloats(a),
    b: await storedFloats(b),
    ...(bias && { bias: await storedFloats(bias) }),
    ...(magnitude && { magnitude: await storedFloats(magnitude) }),
  }
}
