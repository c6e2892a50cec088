/** Names and packing: every layout can hold a CLIP, and reading undoes writing. */

import { clipTensors } from '../../lib/formats/clip-tensors.js'
import { type ClipConfig, parseClipConfig } from '../../lib/formats/hf-config.js'
import { detectLayout, type Layout, layoutNamed } from '../../lib/formats/layouts.js'
import type { StoredTensor } from '../../lib/formats/safetensors-read.js'
import { mapWeights, planWrites } from '../../lib/formats/weight-map.js'
import fc from '../fast-check.js'

const configs: fc.Arbitrary<ClipConfig> = fc
  .record({
    vision: fc.nat(3),
    text: fc.nat(3),
    layers: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 12 })),
    patch: fc.integer({ min: 1, max: 4 }),
  })
  .map(({ vision, text, layers, patch }) =>
    parseClipConfig({
      model_type: 'clip',
      projection_dim: 3,
      vision_config: {
        hidden_size: 2 * (vision + 1),
        num_attention_heads: 2,
        intermediate_size: 5,
        num_hidden_layers: layers[0],
        image_size: 9,
        patch_size: patch,
      },
      text_config: {
        hidden_size: 2 * (text + 1),
        num_attention_heads: 1,
        intermediate_size: 7,
        num_hidden_layers: layers[1],
        vocab_size: 11,
        max_position_embeddings: 4,
      },
    }),
  )
const layouts: Layout[] = [layoutNamed('hf4'), layoutNamed('open-clip'), layoutNamed('open-clip', { textPrefix: 'text.' })]
const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** The plan of a file as if it were on disk, one after another. */
function stored(layout: Layout, config: ClipConfig): Map<string, StoredTensor> {
  let offset = 0
  return new Map(
    planWrites(layout, clipTensors(config)).map(({ name, shape }) => {
      const tensor = { name, shape, dtype: 'F16' as const, count: count(shape), bytes: 2 * count(shape), offset, path: 'x', fileSize: 0 }
      offset += tensor.bytes
      return [name, tensor]
    }),
  )
}

test('each layout is recognised by its names', () => {
  fc.assert(
    fc.property(configs, fc.constantFrom(...layouts), (config, layout) => {
      const names = [...stored(layout, config).keys()]
      const found = detectLayout(names)
      expect(found.name).toBe(layout.name)
      expect(planWrites(found, clipTensors(config)).map(({ name }) => name)).toEqual(names)
    }),
  )
})

test('what is read covers the file exactly once, each tensor with its own elements', () => {
  fc.assert(
    fc.property(configs, fc.constantFrom(...layouts), (config, layout) => {
      const tensors = stored(layout, config)
      const { reads } = mapWeights(tensors, clipTensors(config), layout)
      expect([...reads.keys()]).toEqual([...clipTensors(config).keys()])
      const ranges = [...reads.values()].map(({ offset, count }) => [offset, offset + 2 * count]).sort((a, b) => a[0] - b[0])
      let reached = 0
      for (const [begin, end] of ranges) {
        expect(begin).toBe(reached)
        reached = end
      }
      expect(reached).toBe([...tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0))
    }),
  )
})

describe('OpenAI’s packing', () => {
  const layout = layoutNamed('open-clip', { textPrefix: 'text.' })
  test.each([
    [
      'vision_model.encoder.layers.11.self_attn.v_proj.bias',
      { source: 'visual.transformer.resblocks.11.attn.in_proj_bias', rows: { index: 2, of: 3 } },
    ],
    [
      'text_model.encoder.layers.0.self_attn.q_proj.weight',
      { source: 'text.transformer.resblocks.0.attn.in_proj_weight', rows: { index: 0, of: 3 } },
    ],
    ['text_model.encoder.layers.0.mlp.fc2.weight', { source: 'text.transformer.resblocks.0.mlp.c_proj.weight' }],
    ['vision_model.pre_layrnorm.weight', { source: 'visual.ln_pre.weight' }],
    ['text_projection.weight', { source: 'text.text_projection', transpose: true }],
    ['visual_projection.weight', { source: 'visual.proj', transpose: true }],
    ['logit_scale', { source: 'logit_scale' }],
  ])('%s', (canonical, placement) => expect(layout.place(canonical)).toEqual(placement))
  test('nothing for what it does not know', () => expect(layout.place('text_model.encoder.layers.0.mlp.fc3.weight')).toBeUndefined())
})

describe('a tower alone, flat names', () => {
  test.each([
    ['hf-flat-text', 'text_model.encoder.layers.0.mlp.fc1.bias', 'vision_model.post_layernorm.bias', 'embeddings.token_embedding.weight'],
    [
      'hf-flat-vision',
      'vision_model.encoder.layers.0.mlp.fc1.bias',
      'text_model.final_layer_norm.bias',
      'embeddings.patch_embedding.weight',
    ],
  ] as const)('%s', (name, own, other, sign) => {
    const layout = layoutNamed(name)
    expect(layout.place(own)).toEqual({ source: 'encoder.layers.0.mlp.fc1.bias' })
    expect(layout.place(other)).toBeUndefined()
    expect(detectLayout([sign, 'embeddings.class_embedding']).name).toBe(name)
  })
})

test('other models are refused with some of their names', () => {
  expect(() => detectLayout(['bert.encoder.layer.0.weight'])).toThrow(
    expect.objectContaining({ code: 'E_LAYOUT', message: expect.stringContaining('bert.encoder') }),
  )
})

describe('a checkpoint that does not fit its configuration', () => {
  const config = fc.sample(configs, { seed: 1, numRuns: 1 })[0]
  const hf4 = layouts[0]
  const wanted = clipTensors(config)
  const rename = (from: string, to: string) => {
    const tensors = stored(hf4, config)
    const tensor = tensors.get(from)!
    tensors.delete(from)
    return tensors.set(to, { ...tensor, name: to })
  }

  test('a missing tensor is listed with the nearest name', () => {
    const tensors = rename('vision_model.pre_layrnorm.weight', 'vision_model.pre_layernorm.weight')
    expect(() => mapWeights(tensors, wanted, hf4)).toThrow(
      expect.objectContaining({
        code: 'E_CHECKPOINT',
        message: expect.stringContaining(
          'missing vision_model.pre_layrnorm.weight, nearest in the file: vision_model.pre_layernorm.weight',
        ),
        details: { missing: ['vision_model.pre_layrnorm.weight'], unexpected: ['vision_model.pre_layernorm.weight'] },
      }),
    )
  })

  test('an unexpected tensor is an error that names it', () => {
    const tensors = stored(hf4, config).set('classifier.weight', { ...stored(hf4, config).get('logit_scale')!, name: 'classifier.weight' })
    const details = { missing: [], unexpected: ['classifier.weight'] }
    expect(() => mapWeights(tensors, wanted, hf4)).toThrow(expect.objectContaining({ code: 'E_CHECKPOINT', details }))
  })

  test('buffers of old files are no surprise', () => {
    const name = 'text_model.embeddings.position_ids'
    const tensors = stored(hf4, config).set(name, { ...stored(hf4, config).get('logit_scale')!, name, dtype: 'I64' })
    expect([...mapWeights(tensors, wanted, hf4).reads.keys()]).toEqual([...wanted.keys()])
  })

  test('a wrong shape names the tensor and both shapes', () => {
    const tensors = stored(hf4, config)
    const name = 'text_model.embeddings.position_embedding.weight'
    tensors.set(name, { ...tensors.get(name)!, shape: [5, 2] })
    const [context, width] = wanted.get(name)!
    expect(() => mapWeights(tensors, wanted, hf4)).toThrow(`${name}: expected shape [${context},${width}], got [5,2]`)
  })

  test('a type that holds no weights', () => {
    const tensors = stored(hf4, config)
    tensors.set('logit_scale', { ...tensors.get('logit_scale')!, dtype: 'F8_E4M3' })
    expect(() => mapWeights(tensors, wanted, hf4)).toThrow(expect.objectContaining({ code: 'E_DTYPE' }))
  })

  test('a logit scale of shape [1] is a scalar', () => {
    const tensors = stored(hf4, config)
    tensors.set('logit_scale', { ...tensors.get('logit_scale')!, shape: [1] })
    expect(mapWeights(tensors, wanted, hf4).reads.get('logit_scale')?.count).toBe(1)
  })

  test('a third of a packed tensor cannot be written', () => {
    const shapes = new Map([
      ['vision_model.encoder.layers.0.self_attn.q_proj.weight', [2, 2]],
      ['vision_model.encoder.layers.0.self_attn.v_proj.weight', [2, 2]],
    ])
    expect(() => planWrites(layouts[1], shapes)).toThrow(expect.objectContaining({ code: 'E_CHECKPOINT' }))
  })
})
