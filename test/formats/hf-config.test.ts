/** config.json of a CLIPModel: defaults, old forms, and what is refused. */
import { clipConfigText, clipConfigToJson, parseClipConfig, visionTokens } from '../../lib/formats/hf-config.js'

const code = (run: () => unknown) => {
  try {
    run()
    return undefined
  } catch (error) {
    return (error as { code?: string }).code
  }
}

test('an almost empty file is ViT-B/32', () => {
  const { text, vision, projectionDim, logitScaleInit } = parseClipConfig({ model_type: 'clip' })
  expect({ projectionDim, logitScaleInit }).toEqual({ projectionDim: 512, logitScaleInit: 2.6592 })
  expect(text).toEqual({
    vocabSize: 49408,
    hiddenSize: 512,
    intermediateSize: 2048,
    numHiddenLayers: 12,
    numAttentionHeads: 8,
    maxPositionEmbeddings: 77,
    hiddenAct: 'quick_gelu',
    layerNormEps: 1e-5,
    bosTokenId: 49406,
    eosTokenId: 49407,
    padTokenId: 1,
  })
  expect(vision).toEqual({
    hiddenSize: 768,
    intermediateSize: 3072,
    numHiddenLayers: 12,
    numAttentionHeads: 12,
    imageSize: 224,
    patchSize: 32,
    hiddenAct: 'quick_gelu',
    layerNormEps: 1e-5,
  })
  expect(visionTokens(vision)).toBe(50)
})

test('given values win over defaults, null counts as absent', () => {
  const config = parseClipConfig({
    model_type: 'clip',
    projection_dim: 64,
    text_config: { hidden_size: 96, num_attention_heads: 3, vocab_size: null },
    vision_config: { hidden_act: 'gelu', patch_size: 16 },
  })
  expect(config.projectionDim).toBe(64)
  expect(config.text).toMatchObject({ hiddenSize: 96, numAttentionHeads: 3, vocabSize: 49408, hiddenAct: 'quick_gelu' })
  expect(config.vision).toMatchObject({ hiddenAct: 'gelu', patchSize: 16, imageSize: 224 })
})

test('*_config_dict of old files wins, with the defaults in its train, as CLIPConfig reads openai/clip-vit-large-patch14', () => {
  const config = parseClipConfig({
    model_type: 'clip',
    projection_dim: 768,
    text_config: { hidden_size: 512, eos_token_id: 2, bos_token_id: 0 },
    text_config_dict: { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12, num_hidden_layers: 12, projection_dim: 768 },
    vision_config: { hidden_size: 1024, num_attention_heads: 16 },
    vision_config_dict: null,
  })
  expect(config.text).toMatchObject({ hiddenSize: 768, intermediateSize: 3072, eosTokenId: 49407 })
  expect(config.vision).toMatchObject({ hiddenSize: 1024, numAttentionHeads: 16 })
})

test('the end token of an old file stays 2: pooling depends on it', () => {
  expect(parseClipConfig({ model_type: 'clip', text_config: { eos_token_id: 2 }, vision_config: {} }).text.eosTokenId).toBe(2)
})

test('the file is kept as it was', () => {
  const raw = { model_type: 'clip', text_config: {}, vision_config: {}, transformers_version: '4.2', more: [1] }
  expect(parseClipConfig(raw).raw).toBe(raw)
})

test('a configuration of ours reads back the same', () => {
  const { raw, ...config } = parseClipConfig({ model_type: 'clip', text_config: { hidden_act: 'gelu' }, vision_config: { patch_size: 14 } })
  expect(parseClipConfig(clipConfigToJson(config))).toMatchObject(config)
})

describe('refused', () => {
  test.each<[string, object, string]>([
    ['another model', { model_type: 'siglip' }, 'E_UNSUPPORTED'],
    ['no model type and no towers', {}, 'E_UNSUPPORTED'],
    ['GELU by tanh', { model_type: 'clip', text_config: { hidden_act: 'gelu_pytorch_tanh' } }, 'E_UNSUPPORTED'],
    ['another activation in one tower', { model_type: 'clip', vision_config: { hidden_act: 'relu' } }, 'E_UNSUPPORTED'],
    ['grey images', { model_type: 'clip', vision_config: { num_channels: 1 } }, 'E_UNSUPPORTED'],
    ['heads that do not divide the width', { model_type: 'clip', vision_config: { num_attention_heads: 7 } }, 'E_CONFIG'],
    ['a width as text', { model_type: 'clip', text_config: { hidden_size: '512' } }, 'E_CONFIG'],
    ['no layers', { model_type: 'clip', text_config: { num_hidden_layers: 0 } }, 'E_CONFIG'],
    ['a patch larger than the image', { model_type: 'clip', vision_config: { patch_size: 225 } }, 'E_CONFIG'],
    ['a negative epsilon', { model_type: 'clip', vision_config: { layer_norm_eps: -1 } }, 'E_CONFIG'],
    ['a tower that is a list', { model_type: 'clip', text_config: [] }, 'E_CONFIG'],
  ])('%s', (_, raw, expected) => expect(code(() => parseClipConfig(raw as never))).toBe(expected))

  test('the message names the field and the value', () => {
    expect(() => parseClipConfig({ model_type: 'clip', vision_config: { hidden_act: 'gelu_new' } }, 'x/config.json')).toThrow(
      'x/config.json: vision_config.hidden_act: expected quick_gelu or gelu, got "gelu_new"',
    )
  })
})

test('floats stay floats in the file that is written: transformers 5 refuses an integer there', () => {
  const raw = { initializer_factor: 1, projection_dim: 1, vision_config: { attention_dropout: 0, layer_norm_eps: 1e-5, hidden_size: 64 } }
  const text = clipConfigText(raw)
  expect(text).toContain('"initializer_factor": 1.0,')
  expect(text).toContain('"attention_dropout": 0.0,')
  expect(text).toContain('"hidden_size": 64\n')
  expect(JSON.parse(text)).toEqual(raw)
})
