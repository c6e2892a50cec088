/**
 * A merged checkpoint back into its base. With the original bytes beside it (`keepOriginal`) exactly; else W' − w s B A in f64,
 * rounded once: each element then lies within about a unit in the last place of the merged weight, not always on the original.
 * DoRA, R-Adapters and replaced tensors cannot be subtracted.
 */

import { join } from 'node:path'
import { fingerprint } from '../checkpoint/fingerprint.js'
import { CambiumError } from '../errors.js'
import { access } from '../files.js'
import { finishFolder } from '../formats/atomic-folder.js'
import { type Checkpoint, openCheckpoint } from '../formats/checkpoint.js'
import { openPeftAdapter } from '../formats/peft-read.js'
import { openSafetensors } from '../formats/safetensors-read.js'
import { native } from '../native.js'
import { Edits, matrixOf } from './edits.js'
import { MergedAdapters } from './merged-adapters.js'
import { type AdapterToMerge, openAdapters } from './open-adapters.js'
import { ORIGINAL, type Provenance, readProvenance } from './provenance.js'
import { isFolder, requireOther, type WriteOptions, type WriteReport, writeMerged } from './write-merged.js'

/** A merged folder, what is taken out of it again, and where the result goes. */
export interface UnmergeOptions extends Omit<WriteOptions, 'dtype'> {
  /** the merged folder */
  model: string
  /** adapters to subtract; not needed when the original bytes were kept */
  adapter?: readonly AdapterToMerge[]
  /** the base, when it is there: the result is compared with it, tensor by tensor */
  original?: string
}

/** What was taken out, how exactly, and what was written. */
export interface UnmergeReport extends WriteReport {
  readonly model: string
  /** how it was done */
  readonly by: 'original bytes' | 'subtraction'
  /** the result has the base's names, types, shapes and first kilobytes; undefined when the base is not known */
  readonly isBase?: boolean
  /** adapters that were merged and not taken out: they are still in it */
  readonly left?: readonly string[]
  /** against `original` */
  readonly compared?: readonly RestoredTensor[]
}

export interface RestoredTensor {
  readonly name: string
  /** share of elements with other bits */
  readonly changed: number
  readonly maxUlp: number
  /** ‖result − original‖ / ‖original‖ */
  readonly relative: number
}

/**
 * Writes a merged checkpoint without its adapters: from the original bytes that were kept, or by subtraction.
 * @throws E_UNMERGE for what cannot be subtracted, or when neither original bytes nor adapters are given; as mergeFolder
 */
export async function unmergeFolder(options: UnmergeOptions): Promise<UnmergeReport> {
  const { model, adapter = [], original } = options
  if (await isFolder(model)) await finishFolder(model)
  const checkpoint = await openCheckpoint(model)
  requireOther(checkpoint.folder, options.out)
  const provenance = await readProvenance(checkpoint.folder)
  const kept = join(checkpoint.folder, ORIGINAL)
  const hasOriginal =
    adapter.length === 0 &&
    (await access(kept).then(
      () => true,
      () => false,
    ))
  if (!hasOriginal && adapter.length === 0)
    throw new CambiumError(
      'E_UNMERGE',
      `${model}: expected ${ORIGINAL} beside the weights (merge --keep-original) or the adapters to subtract, got neither`,
    )
  const { edits, left } = hasOriginal
    ? { edits: await restored(checkpoint, kept, provenance), left: [] }
    : await subtracted(checkpoint, adapter, provenance)
  const report = { ...(await writeMerged(edits, options)), ...(left.length > 0 && { left }) }
  if (report.dryRun) return { ...report, model, by: hasOriginal ? 'original bytes' : 'subtraction' }
  const result = await openCheckpoint(options.out)
  return {
    ...report,
    model,
    by: hasOriginal ? 'original bytes' : 'subtraction',
    ...(provenance !== undefined && { isBase: (await fingerprint(result)) === provenance.base }),
    ...(original !== undefined && {
      compared: await compare(
        await openCheckpoint(original),
        result,
        report.changed.map(({ name }) => name),
      ),
    }),
  }
}

async function restored(checkpoint: Checkpoint, path: string, provenance: Provenance | undefined): Promise<Edits> {
  const { tensors } = await openSafetensors(path)
  const edits = new Edits(checkpoint)
  for (const tensor of tensors.values()) {
    const edit = edits.edit(tensor.name)
    edit.replaced = tensor
    edit.dtype = tensor.dtype
  }
  for (const name of provenance?.changed ?? []) if (!tensors.has(name)) edits.removed.add(name)
  return edits
}

interface Subtracted {
  readonly edits: Edits
  /** names of the merged adapters that stay */
  readonly left: readonly string[]
}

async function subtracted(
  checkpoint: Checkpoint,
  list: readonly AdapterToMerge[],
  provenance: Provenance | undefined,
): Promise<Subtracted> {
  const negative: AdapterToMerge[] = []
  const merged = new MergedAdapters(provenance?.adapters ?? [])
  for (const { path, weight } of list) {
    const { folder, targets, saved } = await openPeftAdapter(path)
    const why = targets.some(({ magnitude }) => magnitude !== undefined) ? 'DoRA' : saved.size > 0 ? 'replaced tensors' : undefined
    if (why !== undefined)
      throw new CambiumError(
        'E_UNMERGE',
        `${path}: expected changes that can be subtracted, got ${why}; merge with --keep-original to undo that`,
      )
    negative.push({ path, weight: -(await merged.take(path, folder, weight)) })
  }
  merged.requireAll()
  return { edits: (await openAdapters(checkpoint, negative, { anyBase: true })).edits, left: merged.left }
}

/** The result's tensors beside the original's: reads both once. */
async function compare(original: Checkpoint, result: Checkpoint, names: readonly string[]): Promise<RestoredTensor[]> {
  const out: RestoredTensor[] = []
  for (const name of names) {
    const [before, after] = [original.tensors.get(name), result.tensors.get(name)]
    if (before === undefined || after === undefined || before.shape.join() !== after.shape.join()) continue
    const fold = { name, ...matrixOf(before), fromType: before.dtype, toType: after.dtype, steps: [] }
    const segment = { source: 0, from: before.offset, to: after.offset, bytes: before.bytes, fold }
    const plan = {
      sources: [{ path: before.path, size: before.fileSize }],
      target: after.path,
      size: after.fileSize,
      header: new Uint8Array(),
      segments: [segment],
    }
    const { changed, elements, maxUlp, error, exact } = await native.measureDrift(plan, 0, 1)
    out.push({ name, changed: changed / elements, maxUlp, relative: error === 0 ? 0 : Math.sqrt(error / exact) })
  }
  return out
}
