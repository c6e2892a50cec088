// An adapter for evaluation, whichever kind its folder holds: an R-Adapter of ours, or any LoRA in PEFT's format.
import { loadAdapter, requireBase } from '../checkpoint/adapter-file.js'
import { changesElsewhere, loadLora } from '../checkpoint/lora-file.js'
import { readAdapterJson } from '../formats/adapter-folder.js'
import { clipTensors } from '../formats/clip-tensors.js'
import { placeAdapter } from '../formats/peft-place.js'
import { openPeftAdapter } from '../formats/peft-read.js'
import type { View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { readAdapter } from './loaded-adapter.js'
import { WeightedView } from './weighted-view.js'

/** An adapter of either kind: a view of it at any α, the caller's to dispose, and the α to begin with. */
export interface OpenedAdapter {
  /** a view at an α: 0 the model, 1 what was trained */
  readonly adapter: { at(alpha: number): Promise<View>; dispose(): void }
  /** saved with an R-Adapter (0.5 when none was chosen); 1 for a LoRA */
  readonly alpha: number
}

/** Opens an adapter for its model; the caller disposes it. @throws those of loadAdapter and loadLora */
export async function openAdapter(clip: Clip, folder: string): Promise<OpenedAdapter> {
  const config = await readAdapterJson(folder)
  if (config !== undefined && config.peft_type === undefined) {
    const { adapter, info } = await loadAdapter(clip, folder)
    return { adapter, alpha: info.alpha ?? 0.5 }
  }
  const peft = await openPeftAdapter(folder)
  if (changesElsewhere(placeAdapter(peft, clipTensors(clip.config))).length === 0)
    return { adapter: (await loadLora(clip, folder)).lora, alpha: 1 }
  if (peft.base !== undefined) await requireBase(peft.base, clip.weights.checkpoint, peft.folder)
  const loaded = await readAdapter(clip, peft)
  return { adapter: { at: (alpha) => WeightedView.make(clip, [[loaded, alpha]]), dispose: () => {} }, alpha: 1 }
}
