/** Merging from folder to folder, as the command line does it. */
import { Clip } from '../models/clip.js'
import type { SaveOptions } from '../models/save-clip.js'
import { loadAdapter } from './adapter-file.js'
import { merge } from './merge.js'

export interface MergeFolderOptions {
  /** Folder of the CLIP that the adapter was trained on. */
  model: string
  adapter: string
  out: string
  /** Default: the one saved with the adapter, else 0.5. */
  alpha?: number
  dtype?: SaveOptions['dtype']
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void
}

/** @throws E_BASE for another model's adapter, E_SAME_FOLDER, E_MERGE; the signal's reason when aborted */
export async function mergeFolder(options: MergeFolderOptions): Promise<{ model: string; adapter: string; out: string; alpha: number }> {
  const { model, adapter: folder, out, dtype, signal, onProgress } = options
  const clip = await Clip.load(model)
  try {
    const { adapter, info } = await loadAdapter(clip, folder)
    const alpha = options.alpha ?? info.alpha ?? 0.5
    try {
      const merged = await merge(clip, adapter, { alpha, signal, onProgress })
      try {
        await merged.save(out, { dtype, signal })
      } finally {
        merged.dispose()
      }
    } finally {
      adapter.dispose()
    }
    return { model, adapter: folder, out, alpha }
  } finally {
    clip.dispose()
  }
}
