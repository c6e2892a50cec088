/** Opening adapters' folders: what is read, what is kept, what is refused and with which words. */
import { cpSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CambiumError } from '../../lib/errors.js'
import { parsePeftKey, peftKey } from '../../lib/formats/peft-keys.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { type TensorToWrite, writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { codeOf } from '../core/code-of.js'
import fc from '../fast-check.js'
import { fixture } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'

const scratch = temporaryFolder()
let folders = 0

/** A copy of an adapter of the fixtures, with other fields and with its tensors changed. */
async function variant(
  name: string,
  fields: Record<string, unknown> = {},
  change: (tensors: Map<string, TensorToWrite>) => void = () => undefined,
): Promise<string> {
  const folder = join(scratch, `adapter-${folders++}`)
  mkdirSync(folder)
  const config = JSON.parse(readFileSync(fixture('peft', name, 'adapter_config.json'), 'utf8')) as object
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, ...fields }))
  const tensors = new Map<string, TensorToWrite>()
  const all = readFileSync(fixture('peft', name, 'adapter_model.safetensors'))
  const file = await openSafetensors(fixture('peft', name, 'adapter_model.safetensors'))
  for (const { name: key, dtype, shape, offset, bytes } of file.tensors.values())
    tensors.set(key, { name: key, dtype, shape, data: all.subarray(offset, offset + bytes) })
  change(tensors)
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), [...tensors.values()])
  return folder
}

async function errorOf(folder: string, options?: { name?: string }): Promise<CambiumError> {
  return openPeftAdapter(folder, options).then(
    () => {
      throw new Error('expected an error')
    },
    (error: CambiumError) => error,
  )
}

const Q = 'base_model.model.encoder.layers.0.self_attn.q_proj'

test('configuration and targets', async () => {
  const { config, targets, saved, unknown, base } = await openPeftAdapter(fixture('peft', 'clip-patterns'))
  expect(config).toMatchObject({ r: 4, loraAlpha: 6, useRslora: true, useDora: false, bias: 'none', excludeModules: ['k_proj'] })
  expect(Object.fromEntries(config.rankPattern)).toEqual({ q_proj: 2, '^vision_model\\.encoder\\.layers\\.[01]\\.mlp\\.fc\\d': 3 })
  expect([unknown, base, saved.size]).toEqual([[], undefined, 0])
  const at = (module: string) => targets.find((target) => target.module === module)
  expect(at('vision_model.encoder.layers.1.mlp.fc1')).toMatchObject({ rank: 3, scaling: 6 / Math.sqrt(3), kind: 'linear' })
  expect(at('vision_model.encoder.layers.2.mlp.fc1')).toMatchObject({ rank: 4, scaling: 3 })
  expect(at('text_model.encoder.layers.2.mlp.fc1')).toMatchObject({ rank: 4, scaling: 4.5 })
  expect(at('text_model.encoder.layers.2.self_attn.k_proj')).toBeUndefined()
  expect(at('text_projection')).toMatchObject({ rank: 4, scaling: 3 })
})

test('fields that nobody knows are kept, and named in a warning', async () => {
  const folder = await variant('clip-text-alone', { use_tomorrow: { deep: 1 }, __proto__x: 2 })
  const { config, unknown, warnings } = await openPeftAdapter(folder)
  expect(unknown).toEqual(['use_tomorrow', '__proto__x'])
  expect(config.raw.use_tomorrow).toEqual({ deep: 1 })
  expect(warnings).toEqual([expect.stringContaining('use_tomorrow, __proto__x')])
  const one = await openPeftAdapter(await variant('clip-text-alone', { use_tomorrow: 1 }))
  expect(one.warnings).toEqual([expect.stringMatching(/are kept: use_tomorrow$/)])
})

test('a minimal configuration has the defaults of PEFT', async () => {
  const folder = await variant('clip-text-alone')
  writeFileSync(join(folder, 'adapter_config.json'), '{"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"], "r": 2}')
  const { config, targets } = await openPeftAdapter(folder)
  expect(config).toMatchObject({ loraAlpha: 8, bias: 'none', fanInFanOut: false, modulesToSave: [], layersToTransform: undefined })
  expect(targets[0].scaling).toBe(4)
})

test.each([
  [{ peft_type: 'IA3' }, 'E_UNSUPPORTED', /peft_type: expected "LORA", got "IA3"/],
  [{ peft_type: undefined }, 'E_UNSUPPORTED', /peft_type/],
  [{ target_parameters: ['x.y'], alora_invocation_tokens: [1] }, 'E_UNSUPPORTED', /alora_invocation_tokens, target_parameters/],
  [{ use_qalora: true }, 'E_UNSUPPORTED', /use_qalora/],
  [{ init_lora_weights: 'pissa_niter_4' }, 'E_UNSUPPORTED', /path_initial_model_for_weight_conversion/],
  [{ init_lora_weights: 'olora' }, 'E_UNSUPPORTED', /olora/],
  [{ r: 0 }, 'E_ADAPTER', /r: expected a whole number of at least 1, got 0/],
  [{ r: 5 }, 'E_ADAPTER', /expected rank 5, as the configuration says, got \[2,16\]/],
  [{ lora_alpha: 'x' }, 'E_ADAPTER', /lora_alpha: expected a number/],
  [{ bias: 'some' }, 'E_ADAPTER', /bias: expected/],
  [{ target_modules: 7 }, 'E_ADAPTER', /target_modules/],
  [{ target_modules: '(' }, 'E_ADAPTER', /target_modules: expected a regular expression/],
  [{ rank_pattern: { '[': 2 } }, 'E_ADAPTER', /rank_pattern/],
  [{ rank_pattern: { q_proj: 0 } }, 'E_ADAPTER', /rank_pattern\.q_proj/],
  [{ rank_pattern: [1] }, 'E_ADAPTER', /rank_pattern: expected an object/],
  [{ layers_to_transform: ['a'] }, 'E_ADAPTER', /layers_to_transform/],
  [{ use_dora: true }, 'E_ADAPTER', /4 missing and 0 unexpected:\n {2}missing .*lora_magnitude_vector/],
  [{ lora_bias: true }, 'E_ADAPTER', /missing .*lora_B\.bias/],
])('refused: %j', async (fields, code, message) => {
  const error = await errorOf(await variant('clip-text-alone', fields))
  expect(error.code).toBe(code)
  expect(error.message).toMatch(message)
})

test('missing and unexpected tensors are listed with the nearest name', async () => {
  const renamed = await variant('clip-text-alone', {}, (tensors) => {
    const b = tensors.get(`${Q}.lora_B.weight`) as TensorToWrite
    tensors.delete(b.name)
    tensors.set('x', { ...b, name: `${Q}.lora_BB.weight` })
  })
  const error = await errorOf(renamed)
  expect(error.code).toBe('E_ADAPTER')
  expect(error.message).toContain(`missing ${Q.slice(17)}.lora_B.weight, nearest in the file: ${Q}.lora_BB.weight`)
  expect(error.details).toEqual({ missing: [`${Q.slice(17)}.lora_B.weight`], unexpected: [`${Q}.lora_BB.weight`] })
  const stray = await variant('clip-text-alone', {}, (tensors) => {
    const b = tensors.get(`${Q}.lora_B.weight`) as TensorToWrite
    tensors.set('x', { ...b, name: 'base_model.model.classifier.weight' })
  })
  expect((await errorOf(stray)).message).toMatch(/0 missing and 1 unexpected:\n {2}unexpected .*classifier/)
})

test('an adapter without tensors is none', async () => {
  expect((await errorOf(await variant('clip-text-alone', {}, (tensors) => tensors.clear()))).message).toMatch(
    /expected tensors of an adapter, got none/,
  )
})

test('tensors of other shapes and types', async () => {
  const set = (change: Partial<TensorToWrite>, part = 'lora_A.weight') =>
    variant('clip-text-alone', {}, (tensors) => {
      const key = `${Q}.${part}`
      tensors.set(key, { ...(tensors.get(key) as TensorToWrite), ...change })
    })
  const bytes = new Uint8Array(128)
  expect(await errorOf(await set({ shape: [16, 2] }))).toMatchObject({
    code: 'E_ADAPTER',
    message: expect.stringMatching(/\[16,2\] and \[16,2\]/),
  })
  expect(await codeOf(() => set({ shape: [32] }).then((f) => openPeftAdapter(f)))).toBe('E_ADAPTER')
  expect(await codeOf(() => set({ shape: [2, 0], data: new Uint8Array() }).then((f) => openPeftAdapter(f)))).toBe('E_ADAPTER')
  expect(await codeOf(() => set({ dtype: 'I32' }).then((f) => openPeftAdapter(f)))).toBe('E_DTYPE')
  expect(await codeOf(() => set({ dtype: 'F8_E4M3', data: bytes.subarray(0, 32) }).then((f) => openPeftAdapter(f)))).toBe('E_DTYPE')
  const half = await openPeftAdapter(await set({ dtype: 'BF16', data: bytes.subarray(0, 64) }))
  expect(half.targets.find(({ module }) => Q.endsWith(module))?.a.dtype).toBe('BF16')
})

test('a hostile pattern does not hang', async () => {
  const error = await errorOf(await variant('clip-text-alone', { rank_pattern: { '([a-z._0-9]+)+!': 2 } }))
  expect(error.code).toBe('E_ADAPTER')
  expect(error.message).toContain('matched in')
})

test('folders of adapters with names', async () => {
  const folder = join(scratch, 'named')
  for (const name of ['cats', 'dogs']) cpSync(fixture('peft', 'clip-text-alone'), join(folder, name), { recursive: true })
  expect((await openPeftAdapter(folder, { name: 'dogs' })).folder).toBe(join(folder, 'dogs'))
  expect((await errorOf(folder)).message).toMatch(/expected one adapter or the name of one, got cats, dogs/)
  expect(await codeOf(() => openPeftAdapter(folder, { name: 'birds' }))).toBe('E_NOT_FOUND')
  expect(await codeOf(() => openPeftAdapter(folder, { name: '../cats' }))).toBe('E_OPTION')
  renameSync(join(folder, 'cats'), join(scratch, 'gone'))
  expect((await openPeftAdapter(folder)).targets).toHaveLength(4)
  expect(await codeOf(() => openPeftAdapter(join(scratch, 'nowhere')))).toBe('E_NOT_FOUND')
})

test('pickled adapters are refused in a sentence', async () => {
  const folder = await variant('clip-text-alone')
  renameSync(join(folder, 'adapter_model.safetensors'), join(folder, 'adapter_model.bin'))
  expect(await errorOf(folder)).toMatchObject({ code: 'E_PICKLE', message: expect.stringContaining('save_pretrained') })
})

test('modules that target_modules does not name are told', async () => {
  const { warnings } = await openPeftAdapter(await variant('clip-text-alone', { target_modules: ['q_proj'] }))
  expect(warnings).toEqual([expect.stringMatching(/2 modules have factors but are not in target_modules/)])
})

test('any bytes for a configuration: an error of ours or an adapter', async () => {
  const folder = await variant('clip-text-alone')
  const path = join(folder, 'adapter_config.json')
  const original = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
  const value = fc.anything({ withNullPrototype: false, maxDepth: 2 })
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...Object.keys(original)), value, async (field, junk) => {
      writeFileSync(
        path,
        JSON.stringify({ ...original, [field]: junk }, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v)),
      )
      const code = await codeOf(() => openPeftAdapter(folder))
      expect(code === undefined || /^E_(ADAPTER|UNSUPPORTED)$/.test(code) ? 'fine' : code).toBe('fine')
    }),
    { numRuns: 300 },
  )
})

test('keys', () => {
  const module = 'a.layers.1.q_proj'
  for (const part of ['a', 'b', 'bias', 'embeddingA', 'embeddingB', 'magnitude'] as const)
    expect(parsePeftKey(peftKey(module, part))).toMatchObject({ module, part })
  expect(parsePeftKey('base_model.model.a.b.lora_A.default.weight')).toMatchObject({ module: 'a.b', part: 'a' })
  expect(parsePeftKey('base_model.model.head.modules_to_save.default.weight')).toMatchObject({ module: 'head.weight', part: 'saved' })
  expect(parsePeftKey('base_model.model.x.base_layer.bias')).toMatchObject({ module: 'x.bias', part: 'saved', replaces: true })
  expect(parsePeftKey('base_model.model.x.lora_diag')).toBeUndefined()
  expect(parsePeftKey('base_model.model.x.token_adapter.trainable_tokens_delta')).toBeUndefined()
})
