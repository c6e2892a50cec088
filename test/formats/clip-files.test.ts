/** The folder of a CLIP, read in every form. */
import { cpSync, mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadPreprocessor, openClipFolder } from '../../lib/formats/clip-files.js'
import { configWithDtype } from '../../lib/formats/hf-config.js'
import { layoutNamed } from '../../lib/formats/layouts.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { readRequest } from '../../lib/formats/weight-map.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from '../temporary-folder.js'
import { writeClip } from './write-clip.js'

const root = temporaryFolder()
const model = join(root, 'model')
cpSync(join(__dirname, '../fixtures/even/clip-quick-gelu'), model, { recursive: true })
unlinkSync(join(model, 'case.safetensors'))
const hf4 = layoutNamed('hf4')

/** Names, types, shapes and bytes; the metadata and the order apart. */
async function tensorsOf(path: string) {
  const file = await openSafetensors(path)
  const bytes = readFileSync(path)
  return new Map(
    [...file.tensors.values()].map(({ name, dtype, shape, offset, bytes: size }) => [
      name,
      { dtype, shape, data: bytes.subarray(offset, offset + size).toString('base64') },
    ]),
  )
}
const same = async (folder: string) =>
  expect(await tensorsOf(join(folder, 'model.safetensors'))).toEqual(await tensorsOf(join(model, 'model.safetensors')))

test('transformers’ own file comes back, byte for byte', async () => {
  const files = await openClipFolder(model)
  expect(files.weights.layout.name).toBe('hf4')
  const target = join(root, 'same')
  await writeClip(files, target, hf4)
  await same(target)
})

test.each(['', 'text.'] as const)('through open_clip’s form with prefix "%s" and back nothing changes', async (textPrefix) => {
  const there = join(root, `open-clip-${textPrefix.length}`)
  await writeClip(await openClipFolder(model), there, layoutNamed('open-clip', { textPrefix }))
  const packed = await openClipFolder(there)
  expect(packed.checkpoint.files).toEqual([join(there, 'open_clip_model.safetensors')])
  expect(packed.checkpoint.tensors.get('visual.transformer.resblocks.0.attn.in_proj_weight')?.shape).toEqual([384, 128])
  expect(packed.checkpoint.tensors.get(`${textPrefix}text_projection`)?.shape).toEqual([96, 48])
  const back = join(root, `back-${textPrefix.length}`)
  await writeClip(packed, back, hf4)
  await same(back)
})

test('shards hold the same', async () => {
  const files = await openClipFolder(model)
  const target = join(root, 'shards')
  await writeClip(files, target, hf4, { maxShardBytes: 1e6 })
  expect(readdirSync(target).filter((name) => name.startsWith('model-')).length).toBeGreaterThan(2)
  const saved = await openClipFolder(target)
  for (const [name, read] of files.weights.reads) {
    const [a, b] = await Promise.all([read, saved.weights.reads.get(name)!].map((r) => native.readTensor({ ...readRequest(r), to: 'f32' })))
    expect(Buffer.from(a).equals(Buffer.from(b))).toBe(true)
  }
})

test.each([
  ['BF16', 2 ** -8],
  ['F16', 2 ** -11],
] as const)('%s on disk is read as what it was rounded to', async (dtype, bound) => {
  const files = await openClipFolder(model)
  const target = join(root, dtype)
  await writeClip(files, target, hf4, { dtype })
  const saved = await openClipFolder(target)
  const name = 'text_model.embeddings.token_embedding.weight'
  const [exact, rounded] = await Promise.all(
    [files, saved].map(
      async ({ weights }) => new Float32Array(await native.readTensor({ ...readRequest(weights.reads.get(name)!), to: 'f32' })),
    ),
  )
  expect(exact.some((value, i) => value !== rounded[i])).toBe(true)
  for (const [i, value] of exact.entries()) {
    expect(Math.abs(rounded[i] - value)).toBeLessThanOrEqual(Math.max(Math.abs(value) * bound, 2 ** -25))
  }
})

test('the type of the weights is named as transformers names it', () => {
  expect(configWithDtype({ a: 1, dtype: 'float32' }, 'BF16')).toEqual({ a: 1, dtype: 'bfloat16' })
  expect(configWithDtype({ torch_dtype: 'float16' }, 'F32')).toEqual({ torch_dtype: 'float32', dtype: 'float32' })
})

test('weights without a configuration: an error in Hugging Face’s form, inferred in open_clip’s', async () => {
  const bare = join(root, 'bare')
  mkdirSync(bare)
  cpSync(join(model, 'model.safetensors'), join(bare, 'model.safetensors'))
  await expect(openClipFolder(bare)).rejects.toMatchObject({ code: 'E_NOT_FOUND', message: expect.stringContaining('config.json') })
  const files = await openClipFolder(model)
  const openai = join(root, 'openai')
  await writeClip(files, openai, layoutNamed('open-clip'))
  unlinkSync(join(openai, 'config.json'))
  await expect(openClipFolder(openai)).rejects.toMatchObject({ code: 'E_CONFIG', message: expect.stringContaining('hiddenAct') })
  // Two heads of 64 as every CLIP has them; the text tower's three heads of 32 must be named.
  const config = { model_cfg: { quick_gelu: true, text_cfg: { heads: 3 } }, preprocess_cfg: { mean: [0, 0, 0], std: [1, 1, 1] } }
  writeFileSync(join(openai, 'open_clip_config.json'), JSON.stringify(config))
  const opened = await openClipFolder(openai)
  const { raw, ...inferred } = opened.config
  const { raw: _, ...expected } = files.config
  expect(inferred).toEqual({ ...expected, logitScaleInit: 2.6592 })
  expect((await loadPreprocessor(opened)).plan(83, 40)).toMatchObject({ mean: [0, 0, 0], std: [1, 1, 1], crop: [22, 0, 40, 40] })
})

test.each(['dinov2', 'vit_mae', 'siglip'])('another model, %s, is told by its name, not by its tensors', async (type) => {
  const other = join(root, type)
  mkdirSync(other)
  writeFileSync(join(other, 'config.json'), JSON.stringify({ model_type: type, hidden_size: 8 }))
  const data = new Uint8Array(32)
  await writeSafetensors(join(other, 'model.safetensors'), [{ name: 'embeddings.cls_token', dtype: 'F32', shape: [1, 1, 8], data }])
  const message = expect.stringMatching(new RegExp(`config.json: model_type: expected "clip" .*, got "${type}"$`))
  await expect(openClipFolder(other)).rejects.toMatchObject({ code: 'E_UNSUPPORTED', message })
})

test('a configuration for another depth is an error', async () => {
  const wrong = join(root, 'wrong')
  cpSync(model, wrong, { recursive: true })
  const config = JSON.parse(readFileSync(join(wrong, 'config.json'), 'utf8'))
  config.text_config.num_hidden_layers -= 1
  writeFileSync(join(wrong, 'config.json'), JSON.stringify(config))
  await expect(openClipFolder(wrong)).rejects.toMatchObject({
    code: 'E_CHECKPOINT',
    message: expect.stringContaining('0 missing and 16 unexpected'),
  })
})

test('preprocessing of the folder, else CLIP’s own at the model’s size', async () => {
  const files = await openClipFolder(model)
  expect((await loadPreprocessor(files)).plan(40, 80)).toMatchObject({ resize: [40, 80], crop: [0, 20, 40, 40], resample: 'bicubic' })
  writeFileSync(
    join(model, 'preprocessor_config.json'),
    JSON.stringify({ image_processor_type: 'CLIPImageProcessor', size: 20, crop_size: 10, resample: 2 }),
  )
  expect((await loadPreprocessor(files)).plan(40, 80)).toMatchObject({ resize: [20, 40], crop: [5, 15, 10, 10], resample: 'bilinear' })
  unlinkSync(join(model, 'preprocessor_config.json'))
})
