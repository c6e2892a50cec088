/**
 * What merging does to a checkpoint, tensor by tensor, as data: which steps each changed tensor goes through, which tensors
 * are replaced and which are new. Adapters of every kind become edits; plan.ts makes them files.
 */
import { CambiumError } from '../errors.js'
import type { Checkpoint } from '../formats/checkpoint.js'
import type { DiskDtype } from '../formats/dtype.js'
import type { Placement } from '../formats/layouts.js'
import { type StoredTensor, storedRequest } from '../formats/safetensors-read.js'
import type { CombineOptions, MergeStep, TensorRead } from '../native.js'

export interface TensorEdit {
  /** in order; W is a matrix with a row for each index of its first dimension */
  readonly steps: MergeStep[]
  /** stands in the tensor's place, converted to its type unless the shape is another */
  replaced?: StoredTensor
  /** of the result, whatever the file's or the asked type */
  dtype?: DiskDtype
  /** stands in the tensor's place: a combination of tensors of its size; no steps then */
  combined?: { readonly inputs: readonly StoredTensor[]; readonly options: CombineOptions }
}

export class Edits {
  readonly tensors = new Map<string, TensorEdit>()
  /** tensors that the checkpoint does not have */
  readonly added = new Map<string, StoredTensor>()
  /** tensors that the result does not have */
  readonly removed = new Set<string>()

  constructor(readonly checkpoint: Checkpoint) {}

  edit(name: string): TensorEdit {
    const found = this.tensors.get(name) ?? { steps: [] }
    this.tensors.set(name, found)
    return found
  }

  /** Adds a step on the rows that a placement means. */
  step(at: Placement, step: Omit<MergeStep, 'first' | 'count'>): void {
    const tensor = this.tensor(at.source)
    this.edit(at.source).steps.push({ ...step, ...rowsOf(tensor, at) })
  }

  tensor(name: string): StoredTensor {
    const tensor = this.checkpoint.tensors.get(name)
    if (tensor === undefined) throw new CambiumError('E_CHECKPOINT', `${name}: expected a tensor of the checkpoint, got no such name`)
    return tensor
  }
}

/** Rows and columns of a tensor as merging sees it. */
export function matrixOf({ shape, count }: Pick<StoredTensor, 'shape' | 'count'>): { rows: number; columns: number } {
  const rows = shape.length === 0 ? 1 : shape[0]
  return { rows, columns: rows === 0 ? 0 : count / rows }
}

/** The rows of a placement: all, or a part of a fused tensor. */
function rowsOf(tensor: StoredTensor, { rows }: Placement): { first: number; count: number } {
  const all = matrixOf(tensor).rows
  return rows === undefined ? { first: 0, count: all } : { first: (rows.index * all) / rows.of, count: all / rows.of }
}

/** A stored matrix as a factor; `transposed` gives [columns, rows]. */
export function factor(tensor: StoredTensor, transposed = false): TensorRead {
  return { ...storedRequest(tensor), ...(transposed && { transposeRows: matrixOf(tensor).rows }) }
}
