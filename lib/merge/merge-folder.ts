/**
 * Merging adapters into a checkpoint of any architecture, from folder to folder: tensor by tensor, in f64 with one rounding,
 * in constant memory. What is not changed keeps its bytes; the target appears whole or not at all.
 */
import { readdir, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { CambiumError } from '../errors.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { finishFolder, writeFolder } from '../formats/atomic-folder.js'
import { type Checkpoint, isCheckpointFile, openCheckpoint } from '../formats/checkpoint.js'
import type { DiskDtype } from '../formats/dtype.js'
import { configWithDtype } from '../formats/hf-config.js'
import { readJsonObject } from '../formats/json-fields.js'
import { type TensorDrift, verifyFile } from './drift.js'
import { type AdapterToMerge, type MergedAdapter, openAdapters } from './open-adapters.js'
import { type FilePlan, planFiles } from './plan.js'
import { keepOriginal, ORIGINAL_FILES, writeProvenance } from './provenance.js'
import { copyCompanions, planIn, writeFiles } from './write-files.js'

export interface MergeFolderOptions {
  /** folder or file of a safetensors checkpoint, sharded or not */
  model: string
  /** folders of adapters, PEFT LoRAs or R-Adapters, in the order in which they are merged */
  adapter: string | readonly (string | AdapterToMerge)[]
  /** must not be the model's folder */
  out: string
  /** of R-Adapters; default: the one saved with the adapter, else 0.5 */
  alpha?: number
  /** of the float tensors written; default: each as in the file */
  dtype?: 'file' | 'f32' | 'bf16' | 'f16'
  /** refuse results that are NaN or infinite; default: they are counted */
  safe?: boolean
  /** read back and compare with f64: 32 rows of each changed tensor, or all */
  verify?: 'sample' | 'all'
  /** write the original bytes of the changed tensors beside the result, so that unmerging is exact */
  keepOriginal?: boolean
  /** say what would be done, write nothing */
  dryRun?: boolean
  signal?: AbortSignal
  /** bytes */
  onProgress?: (done: number, total: number) => void
}

export interface MergeReport {
  readonly model: string
  readonly out: string
  readonly adapters: readonly MergedAdapter[]
  /** of the result */
  readonly tensors: number
  readonly changed: readonly { readonly name: string; readonly dtype: string; readonly shape: readonly number[]; readonly bytes: number }[]
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  /** of all files of weights */
  readonly bytes: number
  /** tensors with results that are NaN or infinite, and how many */
  readonly nonFinite: Readonly<Record<string, number>>
  readonly drift?: readonly TensorDrift[]
  readonly warnings: readonly string[]
  readonly dryRun: boolean
  readonly seconds: number
}

const DISK: Record<'f32' | 'bf16' | 'f16', DiskDtype> = { f32: 'F32', bf16: 'BF16', f16: 'F16' }

/**
 * @throws E_ADAPTER with every tensor that does not fit, E_BASE, E_SAME_FOLDER, E_NOT_FINITE (safe), E_VERIFY, E_NO_SPACE and
 *   those of openCheckpoint; the signal's reason when aborted. The target is then as it was.
 */
export async function mergeFolder(options: MergeFolderOptions): Promise<MergeReport> {
  const began = performance.now()
  const { model, out, dtype = 'file', safe = false, dryRun = false, signal, onProgress } = options
  if ((await stat(model).catch(() => undefined))?.isDirectory()) await finishFolder(model)
  const checkpoint = await openCheckpoint(model)
  if (resolve(out) === resolve(checkpoint.folder))
    throw new CambiumError('E_SAME_FOLDER', `out: expected a folder other than the model's own, got ${out}`)
  const list = (typeof options.adapter === 'string' ? [options.adapter] : options.adapter).map((one) =>
    typeof one === 'string' ? { path: one } : one,
  )
  const { edits, adapters, warnings } = await openAdapters(checkpoint, list, options.alpha)
  const plans = await planFiles(edits, dtype === 'file' ? undefined : DISK[dtype])
  const placed = plans.flatMap(({ tensors }) => tensors)
  const report = {
    model,
    out,
    adapters,
    tensors: placed.length,
    changed: placed.filter(({ changed }) => changed).map(({ name, dtype, shape, bytes }) => ({ name, dtype, shape, bytes })),
    files: plans.map(({ name, plan }) => ({ name, bytes: plan.size })),
    bytes: plans.reduce((sum, { plan }) => sum + plan.size, 0),
    warnings,
    dryRun,
  }
  const seconds = () => (performance.now() - began) / 1000
  if (dryRun) return { ...report, nonFinite: {}, seconds: seconds() }
  let nonFinite = new Map<string, number>()
  const drift: TensorDrift[] = []
  await writeFolder(
    out,
    async (aside) => {
      nonFinite = await writeFiles(aside, plans, { finite: safe || adapters.some(({ kind }) => kind === 'r-adapter'), signal, onProgress })
      if (options.verify !== undefined)
        for (const file of plans) drift.push(...(await verifyFile(planIn(aside, file), options.verify, signal)))
      await writeIndex(checkpoint, plans, aside)
      if ((await stat(model)).isDirectory()) await copyCompanions(checkpoint.folder, aside, signal)
      if (dtype !== 'file') await rewriteConfig(checkpoint.folder, aside, DISK[dtype])
      if (options.keepOriginal === true) await keepOriginal(checkpoint, report.changed, aside, signal)
      await writeProvenance(checkpoint, adapters, report.changed, aside)
    },
    (name) => isCheckpointFile(name) || ORIGINAL_FILES.includes(name),
  )
  return { ...report, nonFinite: Object.fromEntries(nonFinite), ...(options.verify !== undefined && { drift }), seconds: seconds() }
}

/** The index of a sharded checkpoint: as it was, unless sizes or names changed. */
async function writeIndex(checkpoint: Checkpoint, plans: readonly FilePlan[], to: string): Promise<void> {
  const name = (await readdir(checkpoint.folder)).find((one) => one.endsWith('.safetensors.index.json') && isCheckpointFile(one))
  const single = plans.length === 1 && !/-\d{5}-of-\d{5}\.safetensors$/.test(plans[0].name)
  if (name === undefined || single) return
  const before = (await readJsonObject(join(checkpoint.folder, name))) ?? {}
  const map = { ...(before.weight_map as Record<string, string>) }
  for (const file of plans) for (const tensor of file.tensors) if (tensor.changed) map[tensor.name] = file.name
  const total = plans.reduce((sum, { tensors }) => sum + tensors.reduce((part, { bytes }) => part + bytes, 0), 0)
  const index = { ...before, metadata: { ...(before.metadata as object), total_size: total }, weight_map: map }
  await writeFileAtomic(join(to, basename(name)), `${JSON.stringify(index, null, 2)}\n`)
}

async function rewriteConfig(from: string, to: string, dtype: DiskDtype): Promise<void> {
  const raw = await readJsonObject(join(from, 'config.json'))
  if (raw !== undefined) await writeFileAtomic(join(to, 'config.json'), `${JSON.stringify(configWithDtype(raw, dtype), null, 2)}\n`)
}
