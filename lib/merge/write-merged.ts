/** Edits of a checkpoint as a folder of their own: weights, index, configuration and what stands beside them. */

import { join, resolve } from 'node:path'
import { CambiumError } from '../errors.js'
import { readdir, readFile, stat } from '../files.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { writeFolder } from '../formats/atomic-folder.js'
import { isCheckpointFile } from '../formats/checkpoint.js'
import { WRITTEN_DTYPES, type WrittenDtype } from '../formats/dtype.js'
import { readJsonObject } from '../formats/json-fields.js'
import { type TensorDrift, verifyFile } from './drift.js'
import type { Edits } from './edits.js'
import { type FilePlan, planFiles } from './plan.js'
import { ORIGINAL_FILES } from './provenance.js'
import { copyCompanions, planIn, writeFiles } from './write-files.js'

export interface WriteOptions {
  /** must not be the checkpoint's folder */
  out: string
  /** of the float tensors written; default: each as in the file */
  dtype?: WrittenDtype
  /** refuse results that are NaN or infinite; default: they are counted */
  safe?: boolean
  /** read back and compare with f64: 32 rows of each merged tensor, or all */
  verify?: 'sample' | 'all'
  /** say what would be done, write nothing */
  dryRun?: boolean
  signal?: AbortSignal
  /** bytes */
  onProgress?: (done: number, total: number) => void
}

export interface ChangedTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: number
}

export interface WriteReport {
  readonly out: string
  /** of the result */
  readonly tensors: number
  readonly changed: readonly ChangedTensor[]
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  /** of all files of weights */
  readonly bytes: number
  /** tensors with results that are NaN or infinite, and how many */
  readonly nonFinite: Readonly<Record<string, number>>
  readonly drift?: readonly TensorDrift[]
  readonly dryRun: boolean
  readonly seconds: number
}

/**
 * @param beside writes more files into the folder before it appears
 * @throws E_SAME_FOLDER, E_NOT_FINITE (safe), E_VERIFY, E_NO_SPACE, E_FILE_CHANGED; the signal's reason when aborted. The
 *   target is then as it was.
 */
export async function writeMerged(
  edits: Edits,
  options: WriteOptions,
  beside: (aside: string, changed: readonly ChangedTensor[]) => Promise<void> = async () => {},
): Promise<WriteReport> {
  const began = performance.now()
  const { out, dtype = 'file', safe = false, dryRun = false, verify, signal, onProgress } = options
  const { checkpoint } = edits
  requireOther(checkpoint.folder, out)
  const plans = await planFiles(edits, dtype === 'file' ? undefined : WRITTEN_DTYPES[dtype])
  const placed = plans.flatMap(({ tensors }) => tensors)
  const changed = placed.filter((one) => one.changed).map(({ name, dtype, shape, bytes }) => ({ name, dtype, shape, bytes }))
  let nonFinite = new Map<string, number>()
  const drift: TensorDrift[] = []
  const write = async (aside: string) => {
    nonFinite = await writeFiles(aside, plans, { finite: safe, signal, onProgress })
    if (verify !== undefined) for (const file of plans) drift.push(...(await verifyFile(planIn(aside, file), verify, signal)))
    await writeIndex(edits, plans, aside)
    await copyCompanions(checkpoint.folder, aside, signal)
    if (dtype !== 'file') await nameDtype(aside, dtype)
    await beside(aside, changed)
  }
  if (!dryRun) await writeFolder(out, write, (name) => isCheckpointFile(name) || ORIGINAL_FILES.includes(name))
  return {
    out,
    tensors: placed.length,
    changed,
    files: plans.map(({ name, plan }) => ({ name, bytes: plan.size })),
    bytes: plans.reduce((sum, { plan }) => sum + plan.size, 0),
    nonFinite: Object.fromEntries(nonFinite),
    ...(verify !== undefined && !dryRun && { drift }),
    dryRun,
    seconds: (performance.now() - began) / 1000,
  }
}

/** @throws E_SAME_FOLDER */
export function requireOther(folder: string, out: string): void {
  if (resolve(out) === resolve(folder))
    throw new CambiumError('E_SAME_FOLDER', `out: expected a folder other than the model's own, got ${out}`)
}

/** The index of a sharded checkpoint, with the sizes and names of the result. */
async function writeIndex(edits: Edits, plans: readonly FilePlan[], to: string): Promise<void> {
  const { checkpoint } = edits
  if (plans.length === 1 && !/-\d{5}-of-\d{5}\.safetensors$/.test(plans[0].name)) return
  const name = (await readdir(checkpoint.folder)).find((one) => one.endsWith('.safetensors.index.json') && isCheckpointFile(one))
  if (name === undefined) return
  const before = (await readJsonObject(join(checkpoint.folder, name))) ?? {}
  const map = { ...(before.weight_map as Record<string, string>) }
  for (const name of edits.removed) delete map[name]
  for (const file of plans) for (const tensor of file.tensors) if (tensor.changed) map[tensor.name] = file.name
  const total = plans.reduce((sum, { tensors }) => sum + tensors.reduce((part, { bytes }) => part + bytes, 0), 0)
  const index = { ...before, metadata: { ...(before.metadata as object), total_size: total }, weight_map: map }
  await writeFileAtomic(join(to, name), `${JSON.stringify(index, null, 2)}\n`)
}

const TORCH: Record<'f32' | 'bf16' | 'f16', string> = { f32: 'float32', bf16: 'bfloat16', f16: 'float16' }

/** Names the type in config.json, in its text: read and written as JSON, 1.0 would become 1, which transformers refuses. */
async function nameDtype(folder: string, dtype: 'f32' | 'bf16' | 'f16'): Promise<void> {
  const path = join(folder, 'config.json')
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return
  await writeFileAtomic(path, text.replace(/("(?:torch_)?dtype"\s*:\s*)"(?:float32|float16|bfloat16)"/g, `$1"${TORCH[dtype]}"`))
}

/** Whether a path is a folder; a checkpoint may also be one file. */
export const isFolder = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined))?.isDirectory() === true
