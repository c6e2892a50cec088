/** A CLIP, or a CLIP with an adapter at one α, ready to be asked. */
import { openAdapter } from '../adapters/open-adapter.js'
import { CambiumError } from '../errors.js'
import type { View } from '../injection/injection.js'
import { Clip, type ClipOptions } from '../models/clip.js'

export interface OpenModelOptions extends ClipOptions {
  /** Folder of a CLIP. */
  model: string
  /** Folder of an adapter for it. */
  adapter?: string
  /** Default: the one saved with the adapter, else 0.5; 1 for a LoRA. */
  alpha?: number
}

export interface OpenModel {
  readonly clip: Clip
  readonly injection: View | undefined
  readonly alpha: number | undefined
  dispose(): Promise<void>
}

/** @throws E_OPTION for α without an adapter, E_BASE for another model's adapter; the errors of files */
export async function openModel(options: OpenModelOptions): Promise<OpenModel> {
  const { model, adapter: folder, alpha: asked, ...clipOptions } = options
  if (folder === undefined && asked !== undefined) throw new CambiumError('E_OPTION', 'alpha: expected an adapter that it scales, got none')
  const clip = await Clip.load(model, clipOptions)
  if (folder === undefined) return { clip, injection: undefined, alpha: undefined, dispose: async () => clip.dispose() }
  try {
    const { adapter, alpha: saved } = await openAdapter(clip, folder)
    const alpha = asked ?? saved
    const injection = await adapter.at(alpha)
    const dispose = async () => {
      await injection.dispose()
      adapter.dispose()
      clip.dispose()
    }
    return { clip, injection, alpha, dispose }
  } catch (error) {
    clip.dispose()
    throw error
  }
}
