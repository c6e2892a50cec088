// Writes a CLIP with random weights in Hugging Face form: config.json, model.safetensors (f32), preprocessor_config.json
// beside the tokenizer. Initialisation is OpenAI's for training from scratch (CLIP.initialize_parameters): standard
// deviations 0.02 and 0.01 for token and text positions, d^-.5 for queries, keys and values, d^-.5 (2L)^-.5 for what is
// added to the residual stream, (2d)^-.5 for the first feed-forward layer, d^-.5 for projections, class and position.

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { normals } from './random.mjs'

/** The demo's architecture: 48 px in patches of 8 (37 tokens), 4.4 M parameters, under 10 MB as f16. */
export const ARCHITECTURE = { image: 48, patch: 8, width: 192, visionLayers: 6, textLayers: 3, context: 24, vocab: 1536 }

/** A block's tensors as [name, shape, standard deviation]; 'one' marks norm weights, 0 biases. */
function blockTensors(prefix, width, layers) {
  const attention = width ** -0.5
  const residual = attention * (2 * layers) ** -0.5
  const linear = (name, out, input, std) => [
    [`${prefix}.${name}.weight`, [out, input], std],
    [`${prefix}.${name}.bias`, [out], 0],
  ]
  return [
    ...norm(`${prefix}.layer_norm1`, width),
    ...['q', 'k', 'v'].flatMap((x) => linear(`self_attn.${x}_proj`, width, width, attention)),
    ...linear('self_attn.out_proj', width, width, residual),
    ...norm(`${prefix}.layer_norm2`, width),
    ...linear('mlp.fc1', 4 * width, width, (2 * width) ** -0.5),
    ...linear('mlp.fc2', width, 4 * width, residual),
  ]
}

const norm = (prefix, width) => [
  [`${prefix}.weight`, [width], 'one'],
  [`${prefix}.bias`, [width], 0],
]

/** Every tensor of the model in Hugging Face's names, [name, shape, standard deviation]. */
function clipTensors({ image, patch, width, visionLayers, textLayers, context, vocab }) {
  const scale = width ** -0.5
  const blocks = (tower, layers) =>
    Array.from({ length: layers }, (_, i) => blockTensors(`${tower}.encoder.layers.${i}`, width, layers)).flat()
  return [
    ['logit_scale', [], Math.log(1 / 0.07)],
    ['text_model.embeddings.token_embedding.weight', [vocab, width], 0.02],
    ['text_model.embeddings.position_embedding.weight', [context, width], 0.01],
    ...blocks('text_model', textLayers),
    ...norm('text_model.final_layer_norm', width),
    ['vision_model.embeddings.class_embedding', [width], scale],
    ['vision_model.embeddings.patch_embedding.weight', [width, 3, patch, patch], (3 * patch * patch) ** -0.5],
    ['vision_model.embeddings.position_embedding.weight', [(image / patch) ** 2 + 1, width], scale],
    ...norm('vision_model.pre_layrnorm', width),
    ...blocks('vision_model', visionLayers),
    ...norm('vision_model.post_layernorm', width),
    ['visual_projection.weight', [width, width], scale],
    ['text_projection.weight', [width, width], scale],
  ]
}

/** A safetensors file (8-byte length, JSON header, data) of f32 tensors drawn in the order of the list. */
export function randomSafetensors(tensors, seed) {
  const normal = normals(seed)
  const header = { __metadata__: { format: 'pt' } }
  const values = []
  let offset = 0
  for (const [name, shape, std] of tensors) {
    const count = shape.reduce((a, b) => a * b, 1)
    const draw = () => (std === 'one' ? 1 : shape.length === 0 ? std : std === 0 ? 0 : std * normal())
    values.push(Float32Array.from({ length: count }, draw))
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + 4 * count] }
    offset += 4 * count
  }
  const json = JSON.stringify(header)
  const head = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(head.length))
  return Buffer.concat([length, head, ...values.map(({ buffer }) => Buffer.from(buffer))])
}

function clipConfig({ image, patch, width, visionLayers, textLayers, context, vocab }) {
  const tower = { hidden_size: width, intermediate_size: 4 * width, num_attention_heads: width / 64 }
  const shared = { ...tower, hidden_act: 'quick_gelu', layer_norm_eps: 1e-5, projection_dim: width, attention_dropout: 0 }
  const ids = { bos_token_id: vocab - 2, eos_token_id: vocab - 1, pad_token_id: vocab - 1 }
  return {
    architectures: ['CLIPModel'],
    model_type: 'clip',
    projection_dim: width,
    logit_scale_init_value: Math.log(1 / 0.07),
    torch_dtype: 'float32',
    text_config: {
      model_type: 'clip_text_model',
      ...shared,
      ...ids,
      num_hidden_layers: textLayers,
      vocab_size: vocab,
      max_position_embeddings: context,
    },
    vision_config: {
      model_type: 'clip_vision_model',
      ...shared,
      num_hidden_layers: visionLayers,
      image_size: image,
      patch_size: patch,
      num_channels: 3,
    },
  }
}

const preprocessorConfig = ({ image }) => ({
  image_processor_type: 'CLIPImageProcessor',
  do_convert_rgb: true,
  do_resize: true,
  size: { shortest_edge: image },
  resample: 3,
  do_center_crop: true,
  crop_size: { height: image, width: image },
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
})

/** Writes the folder of a random model; the tokenizer is copied from demo/model. */
export function initModel(folder, { seed = 0, architecture = ARCHITECTURE } = {}) {
  mkdirSync(folder, { recursive: true })
  const json = (name, value) => writeFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`)
  json('config.json', clipConfig(architecture))
  json('preprocessor_config.json', preprocessorConfig(architecture))
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(fileURLToPath(new URL(`model/${name}`, import.meta.url)), join(folder, name))
  }
  writeFileSync(join(folder, 'model.safetensors'), randomSafetensors(clipTensors(architecture), seed))
}
