/** The settings of a LoRA among those of `cambium train`. */
import type { z } from 'zod'
import type { LoraOptions } from '../methods/lora.js'
import { flagOf, type trainSettings, UsageError } from './settings.js'

type Settings = z.infer<typeof trainSettings>
const KEYS = [
  'loraAlpha',
  'targets',
  'exclude',
  'tower',
  'layers',
  'rslora',
  'dora',
  'loraBias',
  'loraDropout',
  'init',
  'rankPattern',
  'alphaPattern',
] as const
type LoraSettings = Pick<Settings, (typeof KEYS)[number]>

/** Names with commas between them; 'all-linear' and patterns (anything but names, dots and commas) stay one string. */
function namesOf(list: readonly string[] | undefined): readonly string[] | string | undefined {
  if (list?.length !== 1) return list
  const [text] = list
  if (text.toLowerCase() === 'all-linear' || !/^[\w.,]+$/.test(text)) return text
  return text.split(',').filter((name) => name !== '')
}

/**
 * @returns options of LoRA, and what is left
 * @throws UsageError for one of them with another method, which would not heed it
 */
export function loraSettings<T extends LoraSettings & Pick<Settings, 'method'>>(
  settings: T,
): { lora: Omit<LoraOptions, 'r' | 'seed'>; rest: Omit<T, keyof LoraSettings> } {
  const foreign = settings.method === 'lora' ? undefined : KEYS.find((key) => settings[key] !== undefined)
  if (foreign !== undefined) throw new UsageError(`${flagOf(foreign)}: expected --method lora, got ${settings.method}`)
  const {
    loraAlpha: alpha,
    targets,
    exclude,
    tower,
    layers,
    rslora,
    dora,
    loraBias: bias,
    loraDropout: dropout,
    init,
    rankPattern,
    alphaPattern,
    ...rest
  } = settings
  const lora = {
    alpha,
    targets: namesOf(targets),
    exclude: namesOf(exclude),
    tower,
    layers,
    rslora,
    dora,
    bias,
    dropout,
    init,
    rankPattern,
    alphaPattern,
  }
  return { lora, rest }
}
