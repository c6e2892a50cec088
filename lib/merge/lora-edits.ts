/**
 * A PEFT adapter as edits. LoRA: W += w s B A. DoRA: W <- (1 − w) W + w m ∘ (W + s B A) / ‖W + s B A‖, with the norms of
 * the tensor as it stands after the adapters before it; w is the adapter's weight.
 */
import { CambiumError } from '../errors.js'
import type { PlacedAdapter, PlacedTarget, PlacedTensor } from '../formats/peft-adapter.js'
import type { MergeStep } from '../native.js'
import { type Edits, factor } from './edits.js'

/** @throws E_ADAPTER for a bias without a base bias, E_MERGE for a replaced tensor that cannot be weighted */
export function addLora(edits: Edits, { targets, saved, extra }: PlacedAdapter, weight: number): void {
  if (weight === 0) return
  for (const target of targets) {
    edits.step(target.weight, stepOf(target, weight))
    if (target.bias === undefined) continue
    if (target.baseBias === undefined)
      throw new CambiumError('E_ADAPTER', `${target.module}: expected a bias in the base for the adapter's bias, got none`)
    edits.step(target.baseBias, { p: factor(target.bias), scale: target.scaling * weight })
  }
  for (const tensor of saved) addSaved(edits, tensor, weight)
  for (const [name, tensor] of extra) edits.added.set(name, tensor)
}

function stepOf({ kind, a, b, rank, scaling, magnitude, fanInFanOut }: PlacedTarget, weight: number): MergeStep {
  // An embedding [V, D] and a weight stored [in, out] take the transpose of B A.
  const transposed = kind === 'embedding' || (kind === 'linear' && fanInFanOut)
  const [p, q] = transposed ? [factor(a, true), factor(b, true)] : [factor(b), factor(a)]
  if (magnitude === undefined) return { p, q, rank, scale: scaling * weight }
  return { p, q, rank, scale: scaling, weight, norm: transposed ? 'columns' : 'rows', magnitude: factor(magnitude) }
}

/** With weight 1 the saved tensor itself; else W + w (saved − W), so that several adapters' changes add up. */
function addSaved(edits: Edits, { tensor, at, reshaped }: PlacedTensor, weight: number): void {
  const edit = edits.edit(at.source)
  if (weight === 1 && at.rows === undefined && edit.steps.length === 0) {
    edit.replaced = tensor
    return
  }
  if (reshaped || edit.replaced !== undefined)
    throw new CambiumError(
      'E_MERGE',
      `${at.source}: expected one adapter that replaces it, with weight 1, got ${edit.replaced ? 'two' : `another shape [${tensor.shape}] with weight ${weight}`}`,
    )
  const base = edits.tensor(at.source)
  const rows = at.rows === undefined ? base : part(base, at.rows.index, at.rows.of)
  edits.step(at, { p: factor(tensor), scale: weight })
  edits.step(at, { p: factor(rows), scale: -weight })
}

function part<T extends { count: number; bytes: number; offset: number; shape: readonly number[] }>(
  tensor: T,
  index: number,
  of: number,
): T {
  const bytes = tensor.bytes / of
  return {
    ...tensor,
    bytes,
    count: tensor.count / of,
    offset: tensor.offset + index * bytes,
    shape: [tensor.shape[0] / of, ...tensor.shape.slice(1)],
  }
}
