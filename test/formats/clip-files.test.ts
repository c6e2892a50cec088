/** The folder of a CLIP, read and written in every form. */
import { cpSync, mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ClipFiles, loadPreprocessor, openClipFolder, saveClipFolder } from '../../lib/formats/clip-files.js'
import type { DiskDtype } from '../../lib/formats/dtype.js'
import { layoutNamed } from '../../lib/formats/layouts.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { readRequest } from '../../lib/formats/weight-map.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from '../temporary-folder.js'

const source = join(__dirname, '../fixtures/even/clip-quick-gelu')
const root = temporaryFolder()
const model = join(root, 'model')
cpSync(source, model, { recursive: true })
unlinkSync(join(model, 'case.safetensors'))
writeFileSync(join(model, 'tokenizer.json'), '{"as": "it was"}')

const bytesOf = (files: ClipFiles) => async (name: string, to: DiskDtype) =>
  new Uint8Array(await native.readTensor({ ...readRequest(files.weights.reads.get(name)!), to }))
const content = (folder: string, name: string) => readFileSync(join(folder, name))
/** Names, types, shapes and bytes; the metadata and the order apart. */
async function tensorsOf(path: string) {
  const file = await openSafetensors(path)
  const bytes = readFileSync(path)
  return new Map([...file.tensors.values()].map(({ name, dtype, shape, offset, bytes: size }) => [name, { dtype, shape, data: bytes.subarray(offset, offset + size).toString('base64') }]))
}

test('transformers’ own file comes back, byte for byte', async () => {
  const files = await openClipFolder(model)
  expect(files.weights.layout.name).toBe('hf4')
  const target = join(root, 'same')
  await saveClipFolder(files, target, bytesOf(files))
  expect(readdirSync(target).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json'])
  for (const name of ['config.json', 'tokenizer.json']) expect(content(target, name)).toEqual(content(model, name))
  expect(await tensorsOf(join(target, 'model.safetensors'))).toEqual(await tensorsOf(join(model, 'model.safetensors')))
})

test.each(['', 'text.'] as const)('through open_clip’s form with prefix "%s" and back nothing changes', async (textPrefix) => {
  const files = await openClipFolder(model)
  const there = join(root, `open-clip-${textPrefix.length}`)
  await saveClipFolder(files, there, bytesOf(files), { layout: layoutNamed('open-clip', { textPrefix }) })
  const packed = await openClipFolder(there)
  expect(packed.checkpoint.files[0]).toMatch(/open_clip_model\.safetensors$/)
  expect(packed.checkpoint.tensors.get(`visual.transformer.resblocks.0.attn.in_proj_weight`)?.shape).toEqual([384, 128])
  expect(packed.checkpoint.tensors.get(`${textPrefix}text_projection`)?.shape).toEqual([96, 48])
  const back = join(root, `back-${textPrefix.length}`)
  await saveClipFolder(packed, back, bytesOf(packed), { layout: layoutNamed('hf4') })
  expect(await tensorsOf(join(back, 'model.safetensors'))).toEqual(await tensorsOf(join(model, 'model.safetensors')))
})

test('another type is rounded once, and config.json says so', async () => {
  const files = await openClipFolder(model)
  const target = join(root, 'bf16')
  await saveClipFolder(files, target, bytesOf(files), { dtype: 'BF16' })
  const saved = await openClipFolder(target)
  expect(new Set([...saved.checkpoint.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['BF16']))
  expect(saved.config.raw.dtype).toBe('bfloat16')
  const { dtype, ...rest } = saved.config.raw
  const { dtype: _, ...original } = files.config.raw
  expect(rest).toEqual(original)
  const name = 'text_model.final_layer_norm.weight'
  const exact = new Float32Array(await native.readTensor({ ...readRequest(files.weights.reads.get(name)!), to: 'f32' }))
  const rounded = new Float32Array(await native.readTensor({ ...readRequest(saved.weights.reads.get(name)!), to: 'f32' }))
  exact.forEach((value, i) => expect(Math.abs(rounded[i] - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -8))
})

test('shards', async () => {
  const files = await openClipFolder(model)
  const target = join(root, 'shards')
  await saveClipFolder(files, target, bytesOf(files), { maxShardBytes: 1e6 })
  expect(readdirSync(target).filter((name) => name.startsWith('model-')).length).toBeGreaterThan(2)
  const saved = await openClipFolder(target)
  for (const [name, read] of files.weights.reads) {
    const [a, b] = await Promise.all([read, saved.weights.reads.get(name)!].map((r) => native.readTensor({ ...readRequest(r), to: 'f32' })))
    expect(Buffer.from(a).equals(Buffer.from(b))).toBe(true)
  }
})

test('a failure in the middle leaves no weights behind', async () => {
  const files = await openClipFolder(model)
  const target = join(root, 'failed')
  const failing = async () => {
    throw Object.assign(new Error('no more'), { code: 'E_LOST' })
  }
  await expect(saveClipFolder(files, target, failing)).rejects.toMatchObject({ code: 'E_LOST' })
  expect(readdirSync(target).filter((name) => /safetensors|tmp/.test(name))).toEqual([])
})

test('the folder that was read is not written over', async () => {
  const files = await openClipFolder(model)
  await expect(saveClipFolder(files, join(model, '.'), bytesOf(files))).rejects.toMatchObject({ code: 'E_OPTION' })
})

test('weights without a configuration: an error in Hugging Face’s form, inferred in open_clip’s', async () => {
  const bare = join(root, 'bare')
  mkdirSync(bare)
  cpSync(join(model, 'model.safetensors'), join(bare, 'model.safetensors'))
  await expect(openClipFolder(bare)).rejects.toMatchObject({ code: 'E_NOT_FOUND', message: expect.stringContaining('config.json') })
  const files = await openClipFolder(model)
  const openai = join(root, 'openai')
  await saveClipFolder(files, openai, bytesOf(files), { layout: layoutNamed('open-clip') })
  unlinkSync(join(openai, 'config.json'))
  await expect(openClipFolder(openai)).rejects.toMatchObject({ code: 'E_CONFIG', message: expect.stringContaining('hiddenAct') })
  // Two heads of 64 as every CLIP has them; the text tower's three heads of 32 must be named.
  writeFileSync(join(openai, 'open_clip_config.json'), JSON.stringify({ model_cfg: { quick_gelu: true, text_cfg: { heads: 3 } }, preprocess_cfg: { mean: [0, 0, 0], std: [1, 1, 1] } }))
  const { raw, ...inferred } = (await openClipFolder(openai)).config
  const { raw: _, ...expected } = files.config
  expect(inferred).toEqual(expected)
  const preprocessor = await loadPreprocessor(await openClipFolder(openai))
  expect(preprocessor.plan(80, 40)).toMatchObject({ mean: [0, 0, 0], std: [1, 1, 1], crop: [20, 0, 40, 40] })
})

test('a configuration for another depth is an error', async () => {
  const wrong = join(root, 'wrong')
  cpSync(model, wrong, { recursive: true })
  const config = JSON.parse(readFileSync(join(wrong, 'config.json'), 'utf8'))
  config.text_config.num_hidden_layers -= 1
  writeFileSync(join(wrong, 'config.json'), JSON.stringify(config))
  await expect(openClipFolder(wrong)).rejects.toMatchObject({ code: 'E_CHECKPOINT', message: expect.stringContaining('0 missing and 16 unexpected') })
})
