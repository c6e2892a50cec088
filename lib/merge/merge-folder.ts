/**
 * Merging adapters into a checkpoint of any architecture, from folder to folder: tensor by tensor, in f64 with one rounding,
 * in constant memory. What is not changed keeps its bytes; the target appears whole or not at all.
 */
import { finishFolder } from '../formats/atomic-folder.js'
import { openCheckpoint } from '../formats/checkpoint.js'
import { type AdapterToMerge, type MergedAdapter, openAdapters } from './open-adapters.js'
import { keepOriginal, writeProvenance } from './provenance.js'
import { isFolder, requireOther, type WriteOptions, type WriteReport, writeMerged } from './write-merged.js'

/** A checkpoint, the adapters that are merged into it, and where the result goes. */
export interface MergeFolderOptions extends WriteOptions {
  /** folder or file of a safetensors checkpoint, sharded or not */
  model: string
  /** folders of adapters, PEFT LoRAs or R-Adapters, in the order in which they are merged */
  adapter: string | readonly (string | AdapterToMerge)[]
  /** of R-Adapters; default: the one saved with the adapter, else 0.5 */
  alpha?: number
  /** write the original bytes of the changed tensors beside the result, so that unmerging is exact */
  keepOriginal?: boolean
}

/** What was merged and written. */
export interface MergeReport extends WriteReport {
  /** folder or file that was merged into */
  readonly model: string
  readonly adapters: readonly MergedAdapter[]
  /** what a person should know, in sentences */
  readonly warnings: readonly string[]
}

/**
 * Writes a checkpoint with adapters merged into it.
 * @throws E_ADAPTER with every tensor that does not fit, E_BASE, and those of openCheckpoint and writeMerged
 */
export async function mergeFolder(options: MergeFolderOptions): Promise<MergeReport> {
  const { model, adapter, alpha, keepOriginal: keep = false, signal } = options
  if (await isFolder(model)) await finishFolder(model)
  const checkpoint = await openCheckpoint(model)
  requireOther(checkpoint.folder, options.out)
  const list = (typeof adapter === 'string' ? [adapter] : adapter).map((one) => (typeof one === 'string' ? { path: one } : one))
  const { edits, adapters, warnings } = await openAdapters(checkpoint, list, { alpha })
  const safe = options.safe === true || adapters.some(({ kind }) => kind === 'r-adapter')
  const report = await writeMerged(edits, { ...options, safe }, async (aside, changed) => {
    if (keep) await keepOriginal(checkpoint, changed, aside, signal)
    await writeProvenance(checkpoint, adapters, changed, aside)
  })
  return { ...report, model, adapters, warnings }
}
