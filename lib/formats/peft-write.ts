/** Writing an adapter as PEFT does: adapter_config.json, adapter_model.safetensors, a model card; and which base it is for. */
import { join } from 'node:path'
import { CambiumError } from '../errors.js'
import { writeFileAtomic } from './atomic-file.js'
import { writeFolder } from './atomic-folder.js'
import type { JsonObject } from './json-fields.js'
import type { PeftKind } from './peft-adapter.js'
import { peftKey } from './peft-keys.js'
import { patternOf } from './peft-match.js'
import { PEFT_BASE, PEFT_CONFIG, PEFT_TENSORS } from './peft-read.js'
import { type TensorToWrite, writeSafetensors } from './safetensors-write.js'

export type PeftTensorToWrite = Omit<TensorToWrite, 'name'>

/** A changed module: shapes as in peft-adapter.ts. */
export interface PeftModuleToWrite {
  /** its name in the model that PEFT will wrap */
  readonly module: string
  /** default 'linear' */
  readonly kind?: PeftKind
  readonly rank: number
  /** numerator of its scaling */
  readonly alpha: number
  readonly a: PeftTensorToWrite
  readonly b: PeftTensorToWrite
  readonly bias?: PeftTensorToWrite
  readonly magnitude?: PeftTensorToWrite
}

/** An adapter to be written as PEFT does. */
export interface PeftAdapterToWrite {
  readonly modules: readonly PeftModuleToWrite[]
  /** scaling alpha / √rank in place of alpha / rank */
  readonly useRslora?: boolean
  /** written as lora_dropout; default 0 */
  readonly dropout?: number
  /** modules of the model that are not changed: target_modules is then as short as it can be without naming one of them */
  readonly others?: readonly string[]
  /** the model's name on the hub or its folder */
  readonly baseModel?: string
  /** class that transformers loads the base with: 'CLIPModel' */
  readonly baseClass?: { readonly name: string; readonly library: string }
  /** fingerprint of the base's files: another base is refused here; PEFT does not look */
  readonly base?: string
  /** fields of an adapter_config.json that was read, to be kept where nothing above says otherwise */
  readonly keep?: JsonObject
  /** stops it, with its reason; files stay as they were */
  readonly signal?: AbortSignal
}

/**
 * Writes the folder; its files change together or not at all.
 * @throws E_ADAPTER without modules, E_DUPLICATE for a module twice, E_NO_SPACE, E_IO
 */
export async function writePeftAdapter(folder: string, adapter: PeftAdapterToWrite): Promise<void> {
  if (adapter.modules.length === 0) throw new CambiumError('E_ADAPTER', `${folder}: expected modules to write, got none`)
  const config = peftConfig(adapter)
  const tensors = adapter.modules.flatMap(tensorsOf)
  const names = new Set([PEFT_CONFIG, PEFT_TENSORS, PEFT_BASE, 'README.md', 'adapter_model.bin'])
  await writeFolder(
    folder,
    async (aside) => {
      await writeSafetensors(join(aside, PEFT_TENSORS), tensors, { signal: adapter.signal })
      await writeFileAtomic(join(aside, PEFT_CONFIG), json(config))
      await writeFileAtomic(join(aside, 'README.md'), modelCard(adapter))
      if (adapter.base !== undefined) await writeFileAtomic(join(aside, PEFT_BASE), json({ version: 1, base: adapter.base }))
    },
    (name) => names.has(name),
  )
}

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`

function tensorsOf({ module, kind, a, b, bias, magnitude }: PeftModuleToWrite): TensorToWrite[] {
  const isEmbedding = kind === 'embedding'
  const tensors = [
    { ...a, name: peftKey(module, isEmbedding ? 'embeddingA' : 'a') },
    { ...b, name: peftKey(module, isEmbedding ? 'embeddingB' : 'b') },
  ]
  if (bias) tensors.push({ ...bias, name: peftKey(module, 'bias') })
  if (magnitude) tensors.push({ ...magnitude, name: peftKey(module, 'magnitude') })
  return tensors
}

/** The object of adapter_config.json: the fields that every version of PEFT with this adapter's features knows. */
function peftConfig(adapter: PeftAdapterToWrite): JsonObject {
  const { modules, keep = {} } = adapter
  const r = commonest(modules.map(({ rank }) => rank))
  const alpha = commonest(modules.map((module) => module.alpha))
  const patterns = (value: (module: PeftModuleToWrite) => number, standard: number) =>
    Object.fromEntries(modules.filter((module) => value(module) !== standard).map((module) => [patternOf(module.module), value(module)]))
  const { baseClass } = adapter
  const config: Record<string, unknown> = {
    auto_mapping: baseClass === undefined ? null : { base_model_class: baseClass.name, parent_library: baseClass.library },
    base_model_name_or_path: adapter.baseModel ?? null,
    revision: null,
    task_type: null,
    ...keep,
    peft_type: 'LORA',
    inference_mode: true,
    r,
    lora_alpha: alpha,
    lora_dropout: adapter.dropout ?? 0,
    bias: 'none',
    fan_in_fan_out: false,
    use_rslora: adapter.useRslora ?? false,
    use_dora: modules.some(({ magnitude }) => magnitude !== undefined),
    init_lora_weights: true,
    target_modules: targetModules(
      modules.map(({ module }) => module),
      adapter.others,
    ),
    rank_pattern: patterns(({ rank }) => rank, r),
    alpha_pattern: patterns((module) => module.alpha, alpha),
    exclude_modules: null,
    layers_to_transform: null,
    layers_pattern: null,
    modules_to_save: null,
  }
  // Fields of newer versions only where they say something: older ones refuse a name that they do not know.
  if (modules.some(({ bias }) => bias !== undefined)) config.lora_bias = true
  else if ('lora_bias' in config) config.lora_bias = false
  return config
}

/** The most frequent value; the first of several. */
function commonest(values: readonly number[]): number {
  const counts = new Map<number, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best))[0]
}

/** The last parts of the names when they mean these modules and no other, else the names. */
function targetModules(modules: readonly string[], others: readonly string[] | undefined): string[] {
  const last = [...new Set(modules.map((module) => module.slice(module.lastIndexOf('.') + 1)))].sort()
  if (others === undefined) return [...modules]
  const own = new Set(modules)
  const isNamed = (module: string) => last.some((name) => module === name || module.endsWith(`.${name}`))
  return others.some((module) => !own.has(module) && isNamed(module)) ? [...modules] : last
}

function modelCard({ baseModel, modules }: PeftAdapterToWrite): string {
  const kind = modules.some(({ magnitude }) => magnitude !== undefined) ? 'DoRA' : 'LoRA'
  const base = baseModel === undefined ? [] : [`base_model: ${JSON.stringify(baseModel)}`]
  const tags = [
    'tags:',
    '- lora',
    '- cambium',
    ...(baseModel === undefined ? [] : [`- ${JSON.stringify(`base_model:adapter:${baseModel}`)}`]),
  ]
  const name = baseModel ?? 'a base model'
  return `---
${[...base, 'library_name: peft', ...tags].join('\n')}
---

# ${kind} of ${name}

${modules.length} modules, trained with Cambium, in PEFT's format.

\`\`\`python
from peft import PeftModel
model = PeftModel.from_pretrained(base_model, "this folder")
\`\`\`
`
}
