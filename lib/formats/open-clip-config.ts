/**
 * The shape of a CLIP in OpenAI's or open_clip's form: from `open_clip_config.json` where there is one, else from the tensors
 * (heads are width / 64 in every CLIP ViT).
 */
import { join } from 'node:path'
import { CambiumError, fail } from '../errors.js'
import { type ClipConfig, clipConfigToJson, type HiddenAct } from './hf-config.js'
import { Fields, type JsonObject, readJsonObject } from './json-fields.js'

const HEAD_WIDTH = 64
/** Parts of open_clip that change the forward pass and that no CLIP of transformers has. */
const UNSUPPORTED_VISION = [
  'timm_model_name',
  'attentional_pool',
  'no_ln_pre',
  'ls_init_value',
  'pos_embed_type',
  'patch_dropout',
  'output_tokens',
]
const UNSUPPORTED_TEXT = ['hf_model_name', 'ls_init_value', 'embed_cls', 'no_causal_mask', 'final_ln_after_pool', 'mlp_ratio']
const HARMLESS = new Map<string, unknown>([
  ['pos_embed_type', 'learnable'],
  ['mlp_ratio', 4],
])

export interface OpenClipConfig {
  readonly hiddenAct: HiddenAct
  readonly visionHeadWidth: number
  readonly textHeads: number | undefined
  /** `preprocess_cfg`: mean, std, size, interpolation, resize_mode; undefined when the file has none. */
  readonly preprocess: JsonObject | undefined
}

/** `open_clip_config.json` of a folder; undefined when there is none. Errors: E_CONFIG, E_UNSUPPORTED. */
export async function readOpenClipConfig(folder: string): Promise<OpenClipConfig | undefined> {
  const path = join(folder, 'open_clip_config.json')
  const raw = await readJsonObject(path)
  return raw === undefined ? undefined : parseOpenClipConfig(raw, path)
}

export function parseOpenClipConfig(raw: JsonObject, what = 'open_clip_config.json'): OpenClipConfig {
  const root = new Fields(raw, `${what}: `)
  const model = new Fields(
    root.objectAt('model_cfg') ?? fail('E_CONFIG', `${what}: model_cfg`, 'an object', undefined),
    `${what}: model_cfg.`,
  )
  const vision = new Fields(model.objectAt('vision_cfg') ?? {}, `${what}: vision_cfg.`)
  const text = new Fields(model.objectAt('text_cfg') ?? {}, `${what}: text_cfg.`)
  refuse(vision, UNSUPPORTED_VISION, `${what}: vision_cfg`)
  refuse(text, UNSUPPORTED_TEXT, `${what}: text_cfg`)
  if (Array.isArray(vision.get('layers'))) fail('E_UNSUPPORTED', `${what}: vision_cfg.layers`, 'the depth of a ViT', vision.get('layers'))
  for (const [fields, where, known] of [
    [vision, 'vision_cfg', 'tok'],
    [text, 'text_cfg', 'argmax'],
  ] as const) {
    const pool = fields.get('pool_type') ?? known
    if (pool !== known) fail('E_UNSUPPORTED', `${what}: ${where}.pool_type`, known, pool)
  }
  return {
    hiddenAct: model.boolean('quick_gelu', false) ? 'quick_gelu' : 'gelu',
    visionHeadWidth: vision.integer('head_width', HEAD_WIDTH),
    textHeads: text.has('heads') ? text.integer('heads', 1) : undefined,
    preprocess: root.objectAt('preprocess_cfg'),
  }
}

function refuse(fields: Fields, names: readonly string[], where: string): void {
  for (const name of names) {
    const value = fields.get(name)
    if (value === undefined || value === false || value === 0 || value === HARMLESS.get(name)) continue
    fail('E_UNSUPPORTED', `${where}.${name}`, 'none', value)
  }
}

/**
 * The configuration that tensors in open_clip's form imply. `shapes` are by name, without a `text.` prefix.
 * Errors: E_CONFIG when neither `given` nor `hiddenAct` says which activation the weights were trained with.
 */
export function inferClipConfig(
  shapes: ReadonlyMap<string, readonly number[]>,
  given: OpenClipConfig | undefined,
  hiddenAct?: HiddenAct,
): ClipConfig {
  const act = hiddenAct ?? given?.hiddenAct
  if (act === undefined) {
    throw new CambiumError(
      'E_CONFIG',
      'hiddenAct: expected quick_gelu (weights of OpenAI, DFN, MetaCLIP) or gelu (most of LAION), got neither this option nor open_clip_config.json nor config.json',
    )
  }
  const side = (name: string, axis: number) =>
    shapes.get(name)?.[axis] ?? fail('E_CHECKPOINT', name, 'a tensor of that name, to tell the size of the model', undefined)
  const visionWidth = side('visual.conv1.weight', 0)
  const patchSize = side('visual.conv1.weight', 2)
  const textWidth = side('token_embedding.weight', 1)
  const vocabSize = side('token_embedding.weight', 0)
  const common = { hiddenAct: act, layerNormEps: 1e-5 }
  const config = {
    projectionDim: side('visual.proj', 1),
    logitScaleInit: 2.6592,
    text: {
      ...common,
      hiddenSize: textWidth,
      intermediateSize: side('transformer.resblocks.0.mlp.c_fc.weight', 0),
      numHiddenLayers: depth(shapes, 'transformer.resblocks.'),
      numAttentionHeads: given?.textHeads ?? heads(textWidth, HEAD_WIDTH, 'text'),
      vocabSize,
      maxPositionEmbeddings: side('positional_embedding', 0),
      bosTokenId: vocabSize - 2,
      eosTokenId: vocabSize - 1,
      padTokenId: 0,
    },
    vision: {
      ...common,
      hiddenSize: visionWidth,
      intermediateSize: side('visual.transformer.resblocks.0.mlp.c_fc.weight', 0),
      numHiddenLayers: depth(shapes, 'visual.transformer.resblocks.'),
      numAttentionHeads: heads(visionWidth, given?.visionHeadWidth ?? HEAD_WIDTH, 'vision'),
      imageSize: Math.round(Math.sqrt(side('visual.positional_embedding', 0) - 1)) * patchSize,
      patchSize,
    },
  }
  return { ...config, raw: clipConfigToJson(config) }
}

function heads(width: number, headWidth: number, tower: string): number {
  return width % headWidth === 0
    ? width / headWidth
    : fail('E_CONFIG', `${tower} width`, `a multiple of the head width ${headWidth}`, width)
}

function depth(shapes: ReadonlyMap<string, unknown>, prefix: string): number {
  const layers = new Set<string>()
  for (const name of shapes.keys()) if (name.startsWith(prefix)) layers.add(name.slice(prefix.length).split('.', 1)[0])
  return layers.size
}
