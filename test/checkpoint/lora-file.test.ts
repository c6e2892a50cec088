/** LoRA written as PEFT does and read back. What peft itself makes of these files: bench/results/peft-interop.md. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadLora, saveLora } from '../../lib/checkpoint/lora-file.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import type { Injection } from '../../lib/injection/injection.js'
import { Lora, type LoraOptions } from '../../lib/methods/lora.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { Parameter, scope, Tensor } from '../../lib/tensor.js'
import { codeOf } from '../core/code-of.js'
import { Case, fixture, relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'

const scratch = temporaryFolder()
let clip: Clip
let want: Case
beforeAll(async () => {
  clip = await Clip.load(fixture('even', 'clip-quick-gelu'), { dtype: 'f32' })
  want = await Case.open(fixture('even', 'clip-peft-lora'))
})
afterAll(() => clip.dispose())

/** As if trained: every factor moved. */
async function trained(options: LoraOptions): Promise<Lora> {
  const lora = await Lora.create(clip, options)
  for (const [i, parameter] of lora.parameters.entries()) {
    const now = await parameter.floats()
    const noise = native.random(1, i, 99, now.length, 0)
    parameter.write(now.map((value, k) => value * (1 + 0.1 * (noise[k] - 0.5)) + 0.05 * (noise[k] - 0.5)))
  }
  return lora
}

async function features(injection: Injection): Promise<[Float32Array, Float32Array]> {
  const both = scope(() => [
    clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), injection),
    clip.encodeText(want.ids(), injection),
  ])
  return [await both[0].floats(), await both[1].floats()]
}
const difference = ([a, b]: [Float32Array, Float32Array], [c, d]: [Float32Array, Float32Array]) => relativeError([a, c], [b, d])
const configOf = (folder: string) => JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>

const OPTIONS: Record<string, LoraOptions> = {
  lora: { r: 4, alpha: 6 },
  rslora: {
    r: 4,
    alpha: 6,
    rslora: true,
    targets: 'all-linear',
    rankPattern: { fc1: 2, 'text_model.*v_proj': 7 },
    alphaPattern: { q_proj: 3 },
  },
  dora: { r: 3, alpha: 5, dora: true, targets: ['q_proj', 'fc2'] },
  bias: { r: 3, alpha: 5, bias: true, targets: ['out_proj'], layers: [0, 2] },
  'text alone': { r: 2, tower: 'text', targets: /self_attn\.[qk]_proj$/, dropout: 0.25 },
}

test.each(Object.entries(OPTIONS))('%s: written, read, the same features', async (name, options) => {
  const folder = join(scratch, name)
  const lora = await trained(options)
  const before = await features(await lora.at(1))
  await saveLora(lora, folder)
  const { lora: again, warnings } = await loadLora(clip, folder)
  expect(warnings).toEqual([])
  expect(again.modules.map(({ module, rank, scaling }) => [module, rank, scaling.toPrecision(12)])).toEqual(
    lora.modules.map(({ module, rank, scaling }) => [module, rank, scaling.toPrecision(12)]),
  )
  expect(again.options).toMatchObject({ dropout: options.dropout ?? 0, dora: options.dora ?? false, bias: options.bias ?? false })
  expect(difference(await features(await again.at(1)), before)).toBeLessThan(1e-7)
  lora.dispose()
  again.dispose()
})

test.each(['pissa', 'olora'] as const)('%s: written as the change of the original base, of twice the rank', async (init) => {
  for (const rslora of [false, true]) {
    const lora = await trained({ r: 4, alpha: 6, init, rslora, rankPattern: { v_proj: 3 } })
    const before = await features(await lora.at(1))
    await saveLora(lora, join(scratch, init))
    const { lora: again } = await loadLora(clip, join(scratch, init))
    expect(again.modules.map(({ rank }) => rank)).toEqual(lora.modules.map(({ rank }) => 2 * rank))
    expect(configOf(join(scratch, init)).init_lora_weights).toBe(true)
    expect(difference(await features(await again.at(1)), before)).toBeLessThan(2e-6)
    lora.dispose()
    again.dispose()
  }
})

test('the configuration is as short as it can be', async () => {
  const written = async (options: LoraOptions) => {
    const lora = await Lora.create(clip, options)
    await saveLora(lora, join(scratch, 'short'), { baseModel: 'openai/clip' })
    lora.dispose()
    return configOf(join(scratch, 'short'))
  }
  expect(await written({ targets: ['q_proj', 'fc1'] })).toEqual({
    auto_mapping: { base_model_class: 'CLIPModel', parent_library: 'transformers.models.clip.modeling_clip' },
    base_model_name_or_path: 'openai/clip',
    revision: null,
    task_type: null,
    peft_type: 'LORA',
    inference_mode: true,
    r: 8,
    lora_alpha: 8,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    use_rslora: false,
    use_dora: false,
    init_lora_weights: true,
    target_modules: ['fc1', 'q_proj'],
    rank_pattern: {},
    alpha_pattern: {},
    exclude_modules: null,
    layers_to_transform: null,
    layers_pattern: null,
    modules_to_save: null,
  })
  const some = await written({ targets: ['q_proj'], layers: [1], tower: 'text', alphaPattern: { q_proj: 3 } })
  expect(some).toMatchObject({ target_modules: ['text_model.encoder.layers.1.self_attn.q_proj'], lora_alpha: 3, alpha_pattern: {} })
  const mixed = await written({ targets: ['q_proj'], layers: [1], rankPattern: { 'text_model.*': 2 }, r: 5 })
  expect(mixed).toMatchObject({ r: 5, rank_pattern: { '^text_model\\.encoder\\.layers\\.1\\.self_attn\\.q_proj': 2 } })
  expect(readFileSync(join(scratch, 'short', 'README.md'), 'utf8')).toMatch(/^---\nbase_model: "openai\/clip"\nlibrary_name: peft\n/)
  expect(readdirSync(join(scratch, 'short')).sort()).toEqual([
    'README.md',
    'adapter_config.json',
    'adapter_model.safetensors',
    'cambium_base.json',
  ])
})

test('fields of the adapter that training went on from are kept', async () => {
  const { lora, config } = await loadLora(clip, fixture('even', 'clip-peft-lora'))
  await saveLora(lora, join(scratch, 'kept'), { keep: { ...config, use_tomorrow: 1 } })
  expect(configOf(join(scratch, 'kept'))).toMatchObject({
    use_tomorrow: 1,
    peft_version: '0.21.0',
    megatron_core: 'megatron.core',
    r: 6,
    lora_alpha: 9,
  })
  expect((await openPeftAdapter(join(scratch, 'kept'))).unknown).toEqual(['use_tomorrow'])
  lora.dispose()
})

test("running averages in the factors' place", async () => {
  const lora = await trained({ r: 2 })
  const averages = new Map<string, Tensor>()
  for (const { name, shape } of lora.parameters) averages.set(name, Parameter.named(name, null, shape))
  await saveLora(lora, join(scratch, 'averages'), { averages })
  const { targets } = await openPeftAdapter(join(scratch, 'averages'))
  const file = readFileSync(join(scratch, 'averages', 'adapter_model.safetensors'))
  expect(file.subarray(targets[0].a.offset).every((byte) => byte === 0)).toBe(true)
  for (const average of averages.values()) average.dispose()
  lora.dispose()
})

test('names of transformers 5: a tower alone has no prefix', async () => {
  const lora = await trained({ r: 2, tower: 'text' })
  await saveLora(lora, join(scratch, 'five'), { layout: 'hf5' })
  const { targets, config } = await openPeftAdapter(join(scratch, 'five'))
  expect(targets[0].module).toMatch(/^encoder\.layers\.0\.self_attn/)
  expect(config.raw.auto_mapping).toMatchObject({ base_model_class: 'CLIPTextModel' })
  const { lora: again } = await loadLora(clip, join(scratch, 'five'))
  expect(difference(await features(again), await features(lora))).toBeLessThan(1e-7)
  again.dispose()
  lora.dispose()
})

test('refused: another base, and what is no delta of a linear of the blocks', async () => {
  const lora = await trained({ r: 2 })
  await saveLora(lora, join(scratch, 'based'))
  const path = join(scratch, 'based', 'cambium_base.json')
  const base = JSON.parse(readFileSync(path, 'utf8')) as { base: string }
  writeFileSync(path, JSON.stringify({ ...base, base: `sha256:${'0'.repeat(64)}` }))
  expect(await codeOf(() => loadLora(clip, join(scratch, 'based')))).toBe('E_BASE')
  const error = await loadLora(clip, fixture('even', 'clip-peft-rslora-bias')).catch((thrown: Error) => thrown)
  expect(error).toMatchObject({ code: 'E_ADAPTER', message: expect.stringMatching(/got 21 others: .*fc1\.bias.*AdapterSet/) })
  lora.dispose()
})

test('a broken tensor frees what was made', async () => {
  const lora = await trained({ r: 2 })
  const folder = join(scratch, 'cut')
  mkdirSync(folder)
  await saveLora(lora, folder)
  lora.dispose()
  const live = native.memory().live
  const file = join(folder, 'adapter_model.safetensors')
  writeFileSync(file, readFileSync(file).subarray(0, -8))
  expect(await codeOf(() => loadLora(clip, folder))).toBe('E_SAFETENSORS_INCOMPLETE')
  expect(native.memory().live).toBe(live)
})
