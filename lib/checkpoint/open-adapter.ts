// An adapter for evaluation, whichever kind its folder holds: an R-Adapter of ours or a LoRA in PEFT's format.
import { join } from 'node:path'
import { readJsonObject } from '../formats/json-fields.js'
import type { Method } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { loadAdapter } from './adapter-file.js'
import { loadLora } from './lora-file.js'

export interface OpenedAdapter {
  readonly adapter: Method & { dispose(): void }
  /** saved with an R-Adapter (0.5 when none was chosen); 1 for a LoRA */
  readonly alpha: number
}

/** @throws those of loadAdapter and loadLora */
export async function openAdapter(clip: Clip, folder: string): Promise<OpenedAdapter> {
  const config = await readJsonObject(join(folder, 'adapter_config.json'))
  if (config?.peft_type !== undefined) return { adapter: (await loadLora(clip, folder)).lora, alpha: 1 }
  const { adapter, info } = await loadAdapter(clip, folder)
  return { adapter, alpha: info.alpha ?? 0.5 }
}
