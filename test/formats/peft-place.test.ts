/** What an adapter does to a checkpoint, against peft's own merge in float64 (fixtures/oracle/make_peft_fixtures.py). */
import type { CambiumError } from '../../lib/errors.js'
import { openCheckpoint } from '../../lib/formats/checkpoint.js'
import type { Shape } from '../../lib/formats/clip-tensors.js'
import type { PeftAdapter } from '../../lib/formats/peft-adapter.js'
import { placeAdapter } from '../../lib/formats/peft-place.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { fixture, relativeError } from '../fixture.js'
import { referenceMerge, values } from './reference-merge.js'

const CASES = [
  'clip-patterns',
  'clip-layers',
  'clip-everywhere',
  'clip-everywhere-dora',
  'clip-text-alone',
  'vit',
  'open-clip-attention',
  'gpt2',
  'convolutions',
  'convolutions-dora',
]
const shapesOf = (tensors: ReadonlyMap<string, { shape: Shape }>) => new Map([...tensors].map(([name, { shape }]) => [name, shape]))

test.each(CASES)('%s: folded as peft folds it', async (name) => {
  const folder = fixture('peft', name)
  const base = await openCheckpoint(folder)
  const adapter = await openPeftAdapter(folder)
  expect(adapter.warnings).toEqual([])
  const placed = placeAdapter(adapter, shapesOf(base.tensors))
  expect(placed.extra.size).toBe(0)
  const merged = await referenceMerge(base.tensors, placed)
  const theirs = await openSafetensors(`${folder}/merged.safetensors`)
  expect([...merged.keys()].sort()).toEqual([...theirs.tensors.keys()].sort())
  let changed = 0
  for (const [key, stored] of theirs.tensors) {
    expect([key, relativeError([merged.get(key) as Float64Array, await values(stored)])]).toEqual([key, expect.closeTo(0, 6)])
    const original = base.tensors.get(key)
    if (original && relativeError([await values(original), await values(stored)]) > 0.01) changed++
  }
  expect(changed).toBeGreaterThanOrEqual(adapter.targets.length)
})

/** The same adapter for a base of other names: targets as [module, tensor, rows]. */
function places(adapter: PeftAdapter, names: readonly [string, Shape][]) {
  const { targets, saved } = placeAdapter(adapter, new Map(names))
  return {
    targets: targets.map(({ module, weight, baseBias, b, fanInFanOut }) => ({
      module,
      weight,
      bias: baseBias?.source,
      rows: b.shape[0],
      fanInFanOut,
    })),
    saved: saved.map(({ at }) => at),
  }
}

const tower = (prefix: string, layers: number, width: number, inner: number): [string, Shape][] =>
  Array.from({ length: layers }, (_, i): [string, Shape][] => {
    const block = `${prefix}transformer.resblocks.${i}`
    return [
      [`${block}.attn.in_proj_weight`, [3 * width, width]],
      [`${block}.attn.in_proj_bias`, [3 * width]],
      [`${block}.attn.out_proj.weight`, [width, width]],
      [`${block}.attn.out_proj.bias`, [width]],
      [`${block}.mlp.c_fc.weight`, [inner, width]],
      [`${block}.mlp.c_fc.bias`, [inner]],
      [`${block}.mlp.c_proj.weight`, [width, inner]],
      [`${block}.mlp.c_proj.bias`, [width]],
    ]
  }).flat()

const openClip = (width = 16, inner = 24): [string, Shape][] => [
  ...tower('', 3, width, inner),
  ...tower('visual.', 3, width, inner),
  ['visual.proj', [width, 12]],
  ['text_projection', [width, 12]],
  ['token_embedding.weight', [40, width]],
  ['visual.conv1.weight', [width, 3, 4, 4]],
]

test("an adapter of transformers' names finds open_clip's tensors: rows of in_proj, transposed projections", async () => {
  const { targets } = places(await openPeftAdapter(fixture('peft', 'clip-everywhere')), openClip())
  const at = (module: string) => targets.find((target) => target.module === module)
  expect(at('text_model.encoder.layers.2.self_attn.k_proj')).toMatchObject({
    weight: { source: 'transformer.resblocks.2.attn.in_proj_weight', rows: { index: 1, of: 3 } },
    bias: 'transformer.resblocks.2.attn.in_proj_bias',
  })
  expect(at('vision_model.encoder.layers.0.mlp.fc2')?.weight).toEqual({ source: 'visual.transformer.resblocks.0.mlp.c_proj.weight' })
  expect(at('visual_projection')).toMatchObject({ weight: { source: 'visual.proj' }, fanInFanOut: true, bias: undefined })
  expect(at('text_projection')).toMatchObject({ weight: { source: 'text_projection' }, fanInFanOut: true })
  expect(at('vision_model.embeddings.patch_embedding')?.weight).toEqual({ source: 'visual.conv1.weight' })
  expect(targets).toHaveLength(2 * 3 * 6 + 4)
})

test("an adapter of open_clip's fused attention is taken apart for q, k and v, without reading", async () => {
  const adapter = await openPeftAdapter(fixture('peft', 'open-clip-attention'))
  const names = ['q_proj', 'k_proj', 'v_proj', 'out_proj'].map((part) => `self_attn.${part}`)
  const base = [0, 1].flatMap((i) =>
    [...names, 'mlp.fc1'].map((part): [string, Shape] => [
      `text_model.encoder.layers.${i}.${part}.weight`,
      [part === 'mlp.fc1' ? 24 : 12, 12],
    ]),
  )
  const placed = placeAdapter(adapter, new Map(base))
  expect(placed.targets).toHaveLength(10)
  const whole = adapter.targets.find(({ module }) => module === 'transformer.resblocks.1.attn')
  const [q, k, v] = ['q', 'k', 'v'].map((part) =>
    placed.targets.find((t) => t.weight.source === `text_model.encoder.layers.1.self_attn.${part}_proj.weight`),
  )
  const joined = await Promise.all([q, k, v].map((target) => values((target as NonNullable<typeof target>).b)))
  expect(joined.flatMap((part) => [...part])).toEqual([...(await values((whole as NonNullable<typeof whole>).b))])
  expect(k?.b.shape).toEqual([12, 4])
})

test('a tower alone finds its place in the whole model, and the other way round', async () => {
  const alone = await openPeftAdapter(fixture('peft', 'clip-text-alone'))
  const whole = [...(await openCheckpoint(fixture('peft', 'clip-patterns'))).tensors].map(([name, { shape }]): [string, Shape] => [
    name,
    shape,
  ])
  const { targets } = places(alone, whole)
  expect(targets.map(({ weight }) => weight.source)).toContain('text_model.encoder.layers.1.self_attn.v_proj.weight')
  expect(targets).toHaveLength(4)
  const both = await openPeftAdapter(fixture('peft', 'clip-text-alone'))
  const named = { ...both, targets: both.targets.map((target) => ({ ...target, module: `text_model.${target.module}` })) }
  const flat = whole.filter(([name]) => name.startsWith('text_model.')).map(([name, shape]): [string, Shape] => [name.slice(11), shape])
  expect(places(named, flat).targets[0].weight.source).toMatch(/^encoder\.layers\.0/)
})

test('transformers 4 and 5, with and without the prefix of the head model, and timm', async () => {
  const adapter = await openPeftAdapter(fixture('peft', 'vit'))
  const linears = (naming: (layer: number) => [string, string, string], width = 16): [string, Shape][] =>
    [0, 1].flatMap((i) => {
      const [query, out, inner] = naming(i)
      return [
        [`${query}.weight`, query.endsWith('qkv') ? [3 * width, width] : [width, width]],
        [`${out}.weight`, [width, width]],
        [`${inner}.weight`, [24, width]],
      ] as [string, Shape][]
    })
  const old = (i: number): [string, string, string] => [
    `encoder.layer.${i}.attention.attention.query`,
    `encoder.layer.${i}.attention.output.dense`,
    `encoder.layer.${i}.intermediate.dense`,
  ]
  const timm = (i: number): [string, string, string] => [`blocks.${i}.attn.qkv`, `blocks.${i}.attn.proj`, `blocks.${i}.mlp.fc1`]
  const patches: [string, Shape] = ['embeddings.patch_embeddings.projection.weight', [16, 3, 4, 4]]
  expect(places(adapter, [...linears(old), patches]).targets).toHaveLength(7)
  const { targets, saved } = places(adapter, [...linears(timm), ['patch_embed.proj.weight', [16, 3, 4, 4]], ['head.weight', [9, 16]]])
  expect(targets.find(({ module }) => module.endsWith('1.attention.q_proj'))?.weight).toEqual({
    source: 'blocks.1.attn.qkv.weight',
    rows: { index: 0, of: 3 },
  })
  expect(saved).toEqual([]) // the classifier is not there under its name: it is extra
})

test('what does not fit is listed whole, with sizes and nearest names', async () => {
  const adapter = await openPeftAdapter(fixture('peft', 'clip-everywhere'))
  const base = new Map(openClip(16, 25))
  base.delete('token_embedding.weight')
  base.set('token_embeddings.weight', [40, 16])
  const error = thrownBy(() => placeAdapter(adapter, base))
  expect(error.code).toBe('E_ADAPTER')
  expect(error.details).toMatchObject({ missing: ['text_model.embeddings.token_embedding'] })
  expect(error.details.shapes).toHaveLength(12)
  expect(error.message).toContain('missing text_model.embeddings.token_embedding')
  expect(error.message).toContain(
    'transformer.resblocks.0.mlp.c_fc.weight: the adapter is for [24, 16], the base has [25, 16] (text_model.encoder.layers.0.mlp.fc1)',
  )
  const misspelt = new Map(
    [...(await openCheckpoint(fixture('peft', 'clip-everywhere'))).tensors].map(([name, { shape }]) => [name, shape]),
  )
  misspelt.set('text_projektion.weight', [12, 16])
  misspelt.delete('text_projection.weight')
  expect(thrownBy(() => placeAdapter(adapter, misspelt)).message).toContain('missing text_projection, nearest in the base: text_projektion')
})

test('a tower that fits twice is not guessed', async () => {
  const alone = await openPeftAdapter(fixture('peft', 'clip-text-alone'))
  const nameless = { ...alone, config: { ...alone.config, raw: {} } }
  const whole = new Map([...(await openCheckpoint(fixture('peft', 'clip-patterns'))).tensors].map(([name, { shape }]) => [name, shape]))
  expect(thrownBy(() => placeAdapter(nameless, whole)).message).toMatch(/fits .*text_model\. and .*vision_model\./)
})

function thrownBy(fn: () => unknown): CambiumError {
  try {
    fn()
  } catch (error) {
    return error as CambiumError
  }
  throw new Error('expected an error')
}
