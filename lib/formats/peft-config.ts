/**
 * adapter_config.json of a LoRA as PEFT writes it. What PEFT knows and Cambium does not do is refused by name (it would change
 * the result); what only concerned training is passed over; what nobody knows is kept, and named in a warning.
 */
import { CambiumError, fail } from '../errors.js'
import { Fields, type JsonObject } from './json-fields.js'
import type { PeftConfig } from './peft-adapter.js'
import { compilePython } from './peft-match.js'

/** Fields that decide what the tensors mean. */
const READ = new Set([
  'peft_type',
  'r',
  'lora_alpha',
  'lora_dropout',
  'use_rslora',
  'use_dora',
  'lora_bias',
  'bias',
  'fan_in_fan_out',
  'target_modules',
  'exclude_modules',
  'rank_pattern',
  'alpha_pattern',
  'layers_to_transform',
  'layers_pattern',
  'modules_to_save',
  'base_model_name_or_path',
  'init_lora_weights',
])

/** Bookkeeping, and settings that end with training. */
const PASSED_OVER = new Set([
  'auto_mapping',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'inference_mode',
  'loftq_config',
  'lora_ga_config',
  'megatron_config',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
  'runtime_config',
  'task_type',
  'velora_config',
])

/** Other methods under the name of LoRA: they compute something else with the same tensors, or with more of them. */
const REFUSED = new Set([
  'alora_invocation_tokens',
  'arrow_config',
  'kasa_config',
  'layer_replication',
  'monteclora_config',
  'target_parameters',
  'trainable_token_indices',
  'use_bdlora',
  'use_qalora',
])

/** Initialisations that take their part out of the base's weights; a file of theirs fits no ordinary base. */
const CHANGES_BASE = /^(pissa(_niter_\d+)?|olora|corda|lora_ga)$/

export interface ParsedPeftConfig {
  readonly config: PeftConfig
  readonly unknown: readonly string[]
}

/**
 * @param where the file, for messages
 * @throws E_ADAPTER for a malformed field, E_UNSUPPORTED for another PEFT type, another method's setting or an adapter whose
 *   initialisation changed its base
 */
export function parsePeftConfig(raw: JsonObject, where: string): ParsedPeftConfig {
  const at = `${where}: `
  if (typeof raw.peft_type !== 'string' || raw.peft_type.toUpperCase() !== 'LORA')
    throw new CambiumError('E_UNSUPPORTED', `${at}peft_type: expected "LORA", got ${JSON.stringify(raw.peft_type) ?? 'nothing'}`)
  const set = Object.keys(raw).filter((name) => REFUSED.has(name) && isSet(raw[name]))
  if (set.length > 0)
    throw new CambiumError('E_UNSUPPORTED', `${at}expected an adapter without ${set.join(', ')}: they change what its tensors mean`)
  const init = raw.init_lora_weights
  if (typeof init === 'string' && CHANGES_BASE.test(init))
    throw new CambiumError(
      'E_UNSUPPORTED',
      `${at}init_lora_weights: expected an adapter of the original base, got ${JSON.stringify(init)}, which changed the base's weights. In PEFT, save it with path_initial_model_for_weight_conversion, which turns it into one`,
    )
  try {
    return { config: readFields(raw, new Fields(raw, at), at), unknown: Object.keys(raw).filter(isUnknown) }
  } catch (error) {
    if (!(error instanceof CambiumError) || error.code !== 'E_CONFIG') throw error
    throw new CambiumError('E_ADAPTER', error.message, { cause: error })
  }
}

function readFields(raw: JsonObject, fields: Fields, at: string): PeftConfig {
  const bias = fields.get('bias') ?? 'none'
  if (bias !== 'none' && bias !== 'all' && bias !== 'lora_only') fail('E_ADAPTER', `${at}bias`, '"none", "all" or "lora_only"', bias)
  const layers = fields.get('layers_to_transform')
  const base = fields.get('base_model_name_or_path')
  return {
    r: fields.integer('r', 8),
    loraAlpha: fields.number('lora_alpha', 8),
    useRslora: fields.boolean('use_rslora', false),
    useDora: fields.boolean('use_dora', false),
    loraBias: fields.boolean('lora_bias', false),
    loraDropout: fields.number('lora_dropout', 0),
    bias: bias as PeftConfig['bias'],
    fanInFanOut: fields.boolean('fan_in_fan_out', false),
    targetModules: modulesOf(fields.get('target_modules'), `${at}target_modules`),
    excludeModules: modulesOf(fields.get('exclude_modules'), `${at}exclude_modules`),
    rankPattern: patterns(fields, 'rank_pattern', at, (value) => Number.isSafeInteger(value) && value >= 1),
    alphaPattern: patterns(fields, 'alpha_pattern', at, Number.isFinite),
    layersToTransform: layers === undefined ? undefined : layerNumbers(layers, `${at}layers_to_transform`),
    layersPattern: listOf(fields.get('layers_pattern'), `${at}layers_pattern`),
    modulesToSave: listOf(fields.get('modules_to_save'), `${at}modules_to_save`),
    baseModel: typeof base === 'string' && base !== '' ? base : undefined,
    raw,
  }
}

const isUnknown = (name: string) => !READ.has(name) && !PASSED_OVER.has(name) && !REFUSED.has(name) && !OURS.has(name)
/** What Cambium writes into the file. */
const OURS = new Set(['cambium_version'])

function isSet(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  return value !== null && value !== false && value !== undefined
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string')
}

function modulesOf(value: unknown, where: string): readonly string[] | string | undefined {
  if (value === undefined) return undefined
  if (isStrings(value)) return value
  if (typeof value !== 'string') return fail('E_ADAPTER', where, 'a list of names or one regular expression', value)
  if (value.toLowerCase() !== 'all-linear') compilePython(value, where)
  return value
}

function listOf(value: unknown, where: string): readonly string[] {
  if (value === undefined || value === '') return []
  if (typeof value === 'string') return [value]
  return isStrings(value) ? value : fail('E_ADAPTER', where, 'a name or a list of names', value)
}

function layerNumbers(value: unknown, where: string): readonly number[] | undefined {
  const list: unknown[] = Array.isArray(value) ? value : [value]
  if (!list.every((entry) => Number.isSafeInteger(entry))) return fail('E_ADAPTER', where, 'a layer number or a list of them', value)
  return list.length === 0 ? undefined : (list as number[])
}

function patterns(fields: Fields, name: string, at: string, allows: (value: number) => boolean): ReadonlyMap<string, number> {
  const entries = Object.entries(fields.objectAt(name) ?? {})
  for (const [pattern, value] of entries) {
    if (typeof value !== 'number' || !allows(value)) fail('E_ADAPTER', `${at}${name}.${pattern}`, 'a number in range', value)
    compilePython(pattern, `${at}${name}`)
  }
  return new Map(entries as [string, number][])
}
