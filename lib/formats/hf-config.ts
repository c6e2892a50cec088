/**
 * `config.json` of a Hugging Face CLIPModel. Names are those of the file in camel case; absent fields take the values that
 * `transformers` gives them.
 */
import { join } from 'node:path'
import { CambiumError, fail } from '../errors.js'
import type { DiskDtype } from './dtype.js'
import { Fields, isJsonObject, type JsonObject, readJsonObject } from './json-fields.js'

/** QuickGELU x·sigma(1.702 x), or GELU by erf. The wrong one costs points silently, so nothing else is guessed. */
export type HiddenAct = 'quick_gelu' | 'gelu'

export interface TowerConfig {
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly numHiddenLayers: number
  readonly numAttentionHeads: number
  readonly hiddenAct: HiddenAct
  readonly layerNormEps: number
}

export interface ClipTextConfig extends TowerConfig {
  readonly vocabSize: number
  readonly maxPositionEmbeddings: number
  readonly bosTokenId: number
  /** 2 in files before 2023, whatever the tokenizer says: pooling then takes the largest id (see eotPosition). */
  readonly eosTokenId: number
  readonly padTokenId: number
}

export interface ClipVisionConfig extends TowerConfig {
  readonly imageSize: number
  readonly patchSize: number
}

export interface ClipConfig {
  readonly projectionDim: number
  /** ln of the inverse temperature at the start of pretraining. */
  readonly logitScaleInit: number
  readonly text: ClipTextConfig
  readonly vision: ClipVisionConfig
  /** The file as it was, to be written back; for a model without one, what transformers would need. */
  readonly raw: JsonObject
}

/** Positions of the vision tower: the patches and the class token. A rest of the image that fills no patch is not seen. */
export function visionTokens(vision: Pick<ClipVisionConfig, 'imageSize' | 'patchSize'>): number {
  return Math.floor(vision.imageSize / vision.patchSize) ** 2 + 1
}

/** More layers than any tower has; without a limit, names of missing tensors would fill the memory. */
const MOST_LAYERS = 1000

const TOWER = { layer_norm_eps: 1e-5, hidden_act: 'quick_gelu', num_hidden_layers: 12 } as const
const TEXT: JsonObject = {
  ...TOWER,
  vocab_size: 49408,
  hidden_size: 512,
  intermediate_size: 2048,
  num_attention_heads: 8,
  max_position_embeddings: 77,
  bos_token_id: 49406,
  eos_token_id: 49407,
  pad_token_id: 1,
}
const VISION: JsonObject = {
  ...TOWER,
  hidden_size: 768,
  intermediate_size: 3072,
  num_attention_heads: 12,
  image_size: 224,
  patch_size: 32,
  num_channels: 3,
}

/** Reads `config.json` of a folder; undefined when there is none. Errors: E_CONFIG, E_UNSUPPORTED, E_IO. */
export async function readClipConfig(folder: string): Promise<ClipConfig | undefined> {
  const path = join(folder, 'config.json')
  const raw = await readJsonObject(path)
  return raw === undefined ? undefined : parseClipConfig(raw, path)
}

/** The same for a parsed file; `what` names it in errors. */
export function parseClipConfig(raw: JsonObject, what = 'config.json'): ClipConfig {
  const type = raw.model_type
  if (type !== 'clip' && !(type === undefined && isJsonObject(raw.text_config) && isJsonObject(raw.vision_config))) {
    fail('E_UNSUPPORTED', `${what}: model_type`, '"clip" (others can be inspected, merged and extracted from, not trained or asked)', type)
  }
  const top = new Fields(raw, `${what}: `)
  return {
    projectionDim: top.integer('projection_dim', 512),
    logitScaleInit: top.number('logit_scale_init_value', 2.6592),
    text: parseText(tower(top, 'text_config', TEXT), `${what}: text_config.`),
    vision: parseVision(tower(top, 'vision_config', VISION), `${what}: vision_config.`),
    raw,
  }
}

/** `<name>_dict` of old files wins over `<name>`, completed by the defaults, as CLIPConfig does it. */
function tower(top: Fields, name: string, defaults: JsonObject): JsonObject {
  const old = top.objectAt(`${name}_dict`)
  return { ...defaults, ...withoutNull(top.objectAt(name)), ...(old === undefined ? {} : { ...defaults, ...withoutNull(old) }) }
}

function withoutNull(object: JsonObject | undefined): JsonObject {
  return Object.fromEntries(Object.entries(object ?? {}).filter(([, value]) => value !== null))
}

function parseText(object: JsonObject, where: string): ClipTextConfig {
  const fields = new Fields(object, where)
  return {
    ...parseTower(fields, where),
    vocabSize: fields.integer('vocab_size', 0),
    maxPositionEmbeddings: fields.integer('max_position_embeddings', 0),
    bosTokenId: fields.integer('bos_token_id', 0, 0),
    eosTokenId: fields.integer('eos_token_id', 0, 0),
    padTokenId: fields.integer('pad_token_id', 0, 0),
  }
}

function parseVision(object: JsonObject, where: string): ClipVisionConfig {
  const fields = new Fields(object, where)
  if (fields.get('num_channels') !== 3) fail('E_UNSUPPORTED', `${where}num_channels`, '3', fields.get('num_channels'))
  const vision = { ...parseTower(fields, where), imageSize: fields.integer('image_size', 0), patchSize: fields.integer('patch_size', 0) }
  if (vision.patchSize > vision.imageSize)
    fail('E_CONFIG', `${where}patch_size`, `at most image_size ${vision.imageSize}`, vision.patchSize)
  return vision
}

function parseTower(fields: Fields, where: string): TowerConfig {
  const hiddenSize = fields.integer('hidden_size', 0)
  const numAttentionHeads = fields.integer('num_attention_heads', 0)
  if (hiddenSize % numAttentionHeads !== 0)
    fail('E_CONFIG', `${where}hidden_size`, `a multiple of num_attention_heads ${numAttentionHeads}`, hiddenSize)
  const numHiddenLayers = fields.integer('num_hidden_layers', 0)
  if (numHiddenLayers > MOST_LAYERS) fail('E_CONFIG', `${where}num_hidden_layers`, `at most ${MOST_LAYERS}`, numHiddenLayers)
  const layerNormEps = fields.number('layer_norm_eps', 0)
  if (layerNormEps <= 0) fail('E_CONFIG', `${where}layer_norm_eps`, 'a positive number', layerNormEps)
  return {
    hiddenSize,
    numAttentionHeads,
    intermediateSize: fields.integer('intermediate_size', 0),
    numHiddenLayers,
    hiddenAct: parseHiddenAct(fields.get('hidden_act'), `${where}hidden_act`),
    layerNormEps,
  }
}

/** Throws E_UNSUPPORTED for an activation that is neither QuickGELU nor GELU by erf. */
function parseHiddenAct(value: unknown, where: string): HiddenAct {
  if (value === 'quick_gelu' || value === 'gelu') return value
  throw new CambiumError('E_UNSUPPORTED', `${where}: expected quick_gelu or gelu, got ${JSON.stringify(value) ?? 'nothing'}`)
}

/** The file that transformers reads for a config without one (a model that came in open_clip's form). */
export function clipConfigToJson(config: Omit<ClipConfig, 'raw'>): JsonObject {
  const common = (tower: TowerConfig) => ({
    hidden_size: tower.hiddenSize,
    intermediate_size: tower.intermediateSize,
    num_hidden_layers: tower.numHiddenLayers,
    num_attention_heads: tower.numAttentionHeads,
    hidden_act: tower.hiddenAct,
    layer_norm_eps: tower.layerNormEps,
    projection_dim: config.projectionDim,
  })
  const { text, vision } = config
  return {
    architectures: ['CLIPModel'],
    model_type: 'clip',
    projection_dim: config.projectionDim,
    logit_scale_init_value: config.logitScaleInit,
    text_config: {
      ...common(text),
      model_type: 'clip_text_model',
      vocab_size: text.vocabSize,
      max_position_embeddings: text.maxPositionEmbeddings,
      bos_token_id: text.bosTokenId,
      eos_token_id: text.eosTokenId,
      pad_token_id: text.padTokenId,
    },
    vision_config: {
      ...common(vision),
      model_type: 'clip_vision_model',
      image_size: vision.imageSize,
      patch_size: vision.patchSize,
      num_channels: 3,
    },
  }
}

const DTYPE_NAMES: Readonly<Partial<Record<DiskDtype, string>>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16', F64: 'float64' }

/** The file to write beside weights of one type: transformers 5 loads in the type that `dtype` (once `torch_dtype`) names. */
export function configWithDtype(raw: JsonObject, dtype: DiskDtype): JsonObject {
  const name = DTYPE_NAMES[dtype]
  return { ...raw, ...('torch_dtype' in raw ? { torch_dtype: name } : {}), dtype: name }
}

const FLOAT_FIELDS =
  /^(\s*"(?:layer_norm_eps|attention_dropout|dropout|initializer_range|initializer_factor|logit_scale_init_value)": -?\d+)(,?)$/gm

/**
 * The text of config.json. JavaScript has one kind of number and writes 1.0 as `1`, which transformers 5 refuses for
 * the fields that it declares as float: those keep their point.
 */
export function clipConfigText(raw: JsonObject): string {
  return `${JSON.stringify(raw, null, 2).replace(FLOAT_FIELDS, '$1.0$2')}\n`
}
