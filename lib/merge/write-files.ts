/**
 * Writing planned files into a folder that appears whole or not at all. Two files are in flight, so that one is computed while
 * the other reaches the disk.
 */

import { join } from 'node:path'
import { setInterval } from 'node:timers'
import { abortReason, CambiumError, messageOf } from '../errors.js'
import { copyFile, FileHandle, readdir } from '../files.js'
import { type MergePlan, native } from '../native.js'
import type { FilePlan } from './plan.js'

export interface WriteProgress {
  /** a result that is NaN or infinite is an error */
  finite?: boolean
  signal?: AbortSignal
  /** bytes */
  onProgress?: (done: number, total: number) => void
}

const IN_FLIGHT = 2
const PROGRESS_MS = 100

/** Writes each plan under its name; resolves to how many results of a tensor are not finite, by name (none when all are). */
export async function writeFiles(folder: string, plans: readonly FilePlan[], options: WriteProgress): Promise<Map<string, number>> {
  const { finite = false, signal, onProgress } = options
  const total = plans.reduce((sum, { plan }) => sum + plan.size, 0)
  const controls = plans.map(() => new BigInt64Array(2))
  const tell = () =>
    onProgress?.(
      Math.min(
        total,
        controls.reduce((sum, [done]) => sum + Number(done), 0),
      ),
      total,
    )
  const stop = () => {
    for (const control of controls) control[1] = 1n
  }
  const timer = setInterval(tell, PROGRESS_MS)
  signal?.addEventListener('abort', stop)
  if (signal?.aborted) stop()
  const wrong = new Map<string, number>()
  const queue = [...plans.entries()]
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [i, { name, plan }] = next
      const counts = await native.mergeFile({ ...plan, target: join(folder, name), finite }, controls[i])
      for (const [s, count] of counts.entries()) if (count > 0) wrong.set(nameOf(plan.segments[s]) ?? name, count)
    }
  }
  try {
    const results = await Promise.allSettled(Array.from({ length: IN_FLIGHT }, () => work().catch(fail)))
    const failed = results.find((result) => result.status === 'rejected')
    if (signal?.aborted) throw abortReason(signal)
    if (failed !== undefined) throw failed.reason
    onProgress?.(total, total)
    return wrong
  } finally {
    clearInterval(timer)
    signal?.removeEventListener('abort', stop)
  }
  // The others stop too, and all have let go of their files before the folder is removed.
  function fail(error: unknown): never {
    queue.length = 0
    stop()
    const code = (error as { code?: unknown }).code
    throw typeof code === 'string' ? new CambiumError(code, messageOf(error), { cause: error }) : error
  }
}

const nameOf = ({ fold, combine }: MergePlan['segments'][number]) => fold?.name ?? combine?.name

/** Weights in other forms would be those of the model as it was. */
const WEIGHTS = /\.(safetensors|safetensors\.index\.json|bin|bin\.index\.json|pt|pth|ckpt|pkl|h5|msgpack|onnx|onnx_data|gguf|ot)$|^\./

/** Copies what stands beside the weights: configuration, tokenizer, licence. */
export async function copyCompanions(from: string, to: string, signal?: AbortSignal): Promise<string[]> {
  const copied: string[] = []
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (entry.isDirectory() || WEIGHTS.test(entry.name)) continue
    signal?.throwIfAborted()
    const target = join(to, entry.name)
    await copyFile(join(from, entry.name), target)
    const handle = await FileHandle.open(target, 'r+')
    await handle.sync().finally(() => handle.close())
    copied.push(entry.name)
  }
  return copied
}

/** A plan with its file's place. */
export const planIn = (folder: string, { name, plan }: FilePlan): MergePlan => ({ ...plan, target: join(folder, name) })
