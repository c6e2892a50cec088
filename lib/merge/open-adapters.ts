/** Adapters of any kind, opened and found in a checkpoint: all that does not fit is known before anything is written. */
import { basename } from 'node:path'
import { readAdapterConfig, requireBase } from '../checkpoint/adapter-file.js'
import { CambiumError, isCambiumError, messageOf } from '../errors.js'
import { readAdapterJson } from '../formats/adapter-folder.js'
import type { Checkpoint } from '../formats/checkpoint.js'
import { placeAdapter } from '../formats/peft-place.js'
import { openPeftAdapter } from '../formats/peft-read.js'
import { Edits } from './edits.js'
import { addLora } from './lora-edits.js'
import { addRAdapter } from './r-adapter-edits.js'

/** An adapter's folder and its weight in the result. */
export interface AdapterToMerge {
  /** folder of a PEFT LoRA or of an R-Adapter */
  readonly path: string
  /** factor of its change; default 1 (an R-Adapter's: its alpha) */
  readonly weight?: number
}

/** What was merged. */
export interface MergedAdapter {
  readonly path: string
  readonly kind: 'lora' | 'dora' | 'r-adapter'
  readonly weight: number
  /** modules that it changes */
  readonly targets: number
  /** tensors that it replaces or adds */
  readonly saved: number
}

export interface OpenedAdapters {
  readonly edits: Edits
  readonly adapters: readonly MergedAdapter[]
  readonly warnings: readonly string[]
}

/**
 * @param options.alpha of R-Adapters without a weight; default: the one saved with each, else 0.5
 *   anyBase: do not ask whether the checkpoint is the one that a LoRA was trained on
 * @throws E_ADAPTER listing every tensor that is missing (with the nearest name) or of another size, of every adapter; E_BASE
 */
export async function openAdapters(
  checkpoint: Checkpoint,
  list: readonly AdapterToMerge[],
  { alpha, anyBase = false }: { alpha?: number; anyBase?: boolean } = {},
): Promise<OpenedAdapters> {
  const edits = new Edits(checkpoint)
  const adapters: MergedAdapter[] = []
  const warnings: string[] = []
  const problems: CambiumError[] = []
  for (const adapter of list) {
    try {
      if (adapter.weight !== undefined && !Number.isFinite(adapter.weight))
        throw new CambiumError('E_OPTION', `weight: expected a finite number, got ${adapter.weight}`)
      const isR = (await readAdapterJson(adapter.path))?.method === 'r-adapter'
      adapters.push(await (isR ? openR(edits, adapter, alpha) : openLora(edits, adapter, warnings, anyBase)))
    } catch (error) {
      if (!isCambiumError(error) || error.code !== 'E_ADAPTER') throw error
      problems.push(error)
    }
  }
  if (problems.length === 1) throw problems[0]
  if (problems.length > 1) throw new CambiumError('E_ADAPTER', problems.map(messageOf).join('\n'), { details: { problems } })
  return { edits, adapters, warnings }
}

async function openR(edits: Edits, { path, weight }: AdapterToMerge, alpha: number | undefined): Promise<MergedAdapter> {
  const config = await readAdapterConfig(path)
  await requireBase(config.base, edits.checkpoint, path)
  const chosen = weight ?? alpha ?? config.alpha ?? 0.5
  const before = edits.tensors.size
  await addRAdapter(edits, path, chosen)
  return { path, kind: 'r-adapter', weight: chosen, targets: (edits.tensors.size - before) / 2, saved: 0 }
}

async function openLora(edits: Edits, { path, weight = 1 }: AdapterToMerge, warnings: string[], anyBase: boolean): Promise<MergedAdapter> {
  const adapter = await openPeftAdapter(path)
  if (adapter.base !== undefined && !anyBase) await requireBase(adapter.base, edits.checkpoint, path)
  const shapes = new Map([...edits.checkpoint.tensors].map(([name, { shape }]) => [name, shape]))
  const placed = placeAdapter(adapter, shapes)
  addLora(edits, placed, weight)
  warnings.push(...adapter.warnings)
  for (const name of placed.extra.keys()) warnings.push(`${basename(path)}: ${name} is new to the checkpoint`)
  const kind = adapter.targets.some(({ magnitude }) => magnitude !== undefined) ? 'dora' : 'lora'
  return { path: adapter.folder, kind, weight, targets: placed.targets.length, saved: placed.saved.length + placed.extra.size }
}
