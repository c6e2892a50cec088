/** The shape of a model in open_clip's form. */
import { clipTensors } from '../../lib/formats/clip-tensors.js'
import { parseClipConfig } from '../../lib/formats/hf-config.js'
import { layoutNamed } from '../../lib/formats/layouts.js'
import { inferClipConfig, parseOpenClipConfig } from '../../lib/formats/open-clip-config.js'
import { planWrites } from '../../lib/formats/weight-map.js'

const config = parseClipConfig({
  model_type: 'clip',
  projection_dim: 96,
  text_config: {
    hidden_size: 128,
    num_attention_heads: 2,
    intermediate_size: 512,
    num_hidden_layers: 3,
    vocab_size: 600,
    max_position_embeddings: 20,
    bos_token_id: 598,
    eos_token_id: 599,
    pad_token_id: 0,
  },
  vision_config: { hidden_size: 192, num_attention_heads: 3, intermediate_size: 768, num_hidden_layers: 2, image_size: 48, patch_size: 8 },
})
const shapes = new Map(planWrites(layoutNamed('open-clip'), clipTensors(config)).map(({ name, shape }) => [name, shape]))
const base = { embed_dim: 96, vision_cfg: { image_size: 48, layers: 2, width: 192, patch_size: 8 }, text_cfg: { heads: 2, layers: 3 } }

test('everything but the activation is told from the tensors', () => {
  const { raw, ...inferred } = inferClipConfig(shapes, undefined, 'quick_gelu')
  const { raw: _, ...expected } = config
  expect(inferred).toEqual(expected)
})

test('the activation is not guessed', () => {
  expect(() => inferClipConfig(shapes, undefined)).toThrow(
    expect.objectContaining({ code: 'E_CONFIG', message: expect.stringContaining('hiddenAct') }),
  )
})

test.each([
  [true, 'quick_gelu'],
  [false, 'gelu'],
  [undefined, 'gelu'],
])('quick_gelu: %s is %s', (quick_gelu, act) => {
  const given = parseOpenClipConfig({ model_cfg: { ...base, quick_gelu } })
  const inferred = inferClipConfig(shapes, given)
  expect(inferred.vision.hiddenAct).toBe(act)
  expect(inferred.text.hiddenAct).toBe(act)
})

test('heads as the file says', () => {
  const given = parseOpenClipConfig({ model_cfg: { ...base, vision_cfg: { head_width: 32 }, text_cfg: { heads: 4 } } })
  const inferred = inferClipConfig(shapes, given)
  expect([inferred.vision.numAttentionHeads, inferred.text.numAttentionHeads]).toEqual([6, 4])
})

test.each<[string, object]>([
  ['a timm tower', { vision_cfg: { timm_model_name: 'convnext_base' } }],
  ['a ResNet', { vision_cfg: { layers: [3, 4, 6, 3] } }],
  ['attentional pooling', { vision_cfg: { attentional_pool: true } }],
  ['layer scale', { vision_cfg: { ls_init_value: 0.1 } }],
  ['average pooling', { vision_cfg: { pool_type: 'avg' } }],
  ['a Hugging Face text tower', { text_cfg: { hf_model_name: 'roberta-base' } }],
  ['pooling at the last token', { text_cfg: { pool_type: 'last' } }],
])('%s is refused', (_, part) => {
  expect(() => parseOpenClipConfig({ model_cfg: { ...base, ...part } })).toThrow(expect.objectContaining({ code: 'E_UNSUPPORTED' }))
})

test('a file without model_cfg is refused', () => {
  expect(() => parseOpenClipConfig({})).toThrow(expect.objectContaining({ code: 'E_CONFIG' }))
})
