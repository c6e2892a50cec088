/**
 * Adapters for bench/peers/peft_interop.py: every kind of LoRA trained a few steps on a CLIP, written in PEFT's format with
 * our features beside them; and, with --check, features of adapters that peft has written.
 *
 *   node bench/peft-interop.mjs --model DIR --out DIR [--steps 3]
 *   node bench/peft-interop.mjs --model DIR --check DIR
 */
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { AdamW, AdapterSet, backward, Clip, InfoNceLoss, Lora, saveLora, scope, step, synchronize, Tensor } = require('../dist/index.js')
const { openSafetensors } = require('../dist/formats/safetensors-read.js')
const { writeSafetensors } = require('../dist/formats/safetensors-write.js')
const { native } = require('../dist/native.js')

const { values: args } = parseArgs({
  options: { model: { type: 'string' }, out: { type: 'string' }, check: { type: 'string' }, steps: { type: 'string', default: '3' } },
})

const KINDS = {
  lora: { r: 8, alpha: 16 },
  'all-linear-rslora': { r: 4, alpha: 6, rslora: true, targets: 'all-linear' },
  patterns: {
    r: 4,
    alpha: 6,
    targets: ['q_proj', 'v_proj', 'fc1', 'fc2'],
    rankPattern: { fc1: 2, 'text_model.*v_proj': 7 },
    alphaPattern: { '^vision_model.*q_proj': 3 },
  },
  layers: { r: 4, targets: ['out_proj'], layers: [0, 2] },
  dora: { r: 4, alpha: 6, dora: true, targets: ['q_proj', 'v_proj', 'fc1'] },
  'dora-rslora': { r: 4, alpha: 6, dora: true, rslora: true, targets: ['k_proj', 'fc2'] },
  bias: { r: 4, alpha: 6, bias: true, targets: ['q_proj', 'fc1'] },
  gaussian: { r: 4, init: 'gaussian' },
  pissa: { r: 4, alpha: 6, init: 'pissa', targets: ['q_proj', 'fc2'] },
  'pissa-rslora': { r: 4, alpha: 6, init: 'pissa', rslora: true },
  olora: { r: 4, alpha: 6, init: 'olora' },
  'text-hf4': { r: 4, tower: 'text' },
  'text-hf5': { r: 4, tower: 'text', layout: 'hf5' },
  'vision-hf5': { r: 4, tower: 'vision', targets: ['q_proj', 'fc1'], layout: 'hf5' },
}

const clip = await Clip.load(args.model, { dtype: 'f32' })
const { imageSize } = clip.config.vision
const { vocabSize, eosTokenId, bosTokenId } = clip.config.text
const batch = 6
const shape = [batch, 3, imageSize, imageSize]
const pixels = native.random(5, 0, 1, batch * 3 * imageSize ** 2, 0).map((u) => 4 * u - 2)
const ids = Array.from({ length: batch }, (_, i) => {
  const words = Array.from(native.random(6, i, 1, 8, 0), (u) => 1 + Math.floor(u * (Math.min(vocabSize, bosTokenId) - 2)))
  return [bosTokenId, ...words, eosTokenId]
})

/** Writes our features with an adapter, and what they were computed from. */
async function writeFeatures(path, injection) {
  const [image, text] = scope(() => [clip.encodeImage(Tensor.from(pixels, shape), injection), clip.encodeText(ids, injection)])
  const f32 = (name, sides, values) => ({ name, dtype: 'F32', shape: sides, data: new Uint8Array(values.buffer) })
  const wide = BigInt64Array.from(ids.flat(), BigInt)
  await writeSafetensors(path, [
    f32('pixels', shape, pixels),
    { name: 'ids', dtype: 'I64', shape: [batch, ids[0].length], data: new Uint8Array(wide.buffer) },
    f32('image', image.shape, await image.floats()),
    f32('text', text.shape, await text.floats()),
  ])
}

/** A few steps at a rate that moves everything. */
async function train(lora) {
  const objective = new InfoNceLoss(clip.logitScale)
  const optimizer = new AdamW(lora.parameters)
  for (let i = 0; i < Number(args.steps); i++) {
    await step(() => {
      lora.draw(0, i)
      const image = clip.encodeImage(Tensor.from(pixels, shape), lora)
      const labels = Tensor.from(
        Int32Array.from({ length: batch }, (_, row) => row),
        [batch],
        'i32',
      )
      backward(objective.loss(image, clip.encodeText(ids, lora), labels))
      optimizer.update(0.01)
    })
  }
  await synchronize()
}

if (args.out) {
  for (const [name, { layout, ...options }] of Object.entries(KINDS)) {
    const lora = await Lora.create(clip, options)
    await train(lora)
    const folder = join(args.out, name)
    await saveLora(lora, folder, { layout, baseModel: args.model })
    await writeFeatures(join(folder, 'features.safetensors'), await lora.at(1))
    lora.dispose()
  }
}

/** ‖a − b‖ / ‖b‖ of our features and those that peft wrote beside its adapter. */
async function errorOf(folder) {
  const set = new AdapterSet(clip)
  await set.loadAdapter(folder)
  const file = await openSafetensors(join(folder, 'peft-features.safetensors'))
  const read = async (name) => {
    const { path, offset, count, dtype, fileSize } = file.tensors.get(name)
    return new Float32Array(await native.readTensor({ path, offset, count, from: dtype, to: 'F32', expectedSize: fileSize }))
  }
  const [image, text] = scope(() => [clip.encodeImage(Tensor.from(pixels, shape), set), clip.encodeText(ids, set)])
  const pairs = [
    [await image.floats(), await read('image')],
    [await text.floats(), await read('text')],
  ]
  set.dispose()
  const sum = (of) => pairs.reduce((total, [a, b]) => total + a.reduce((all, value, i) => all + of(value, b[i]), 0), 0)
  return Math.sqrt(sum((a, b) => (a - b) ** 2) / sum((_, b) => b ** 2))
}

if (args.check) {
  for (const name of readdirSync(args.check).sort())
    process.stdout.write(`${name} ${(await errorOf(join(args.check, name))).toExponential(1)}\n`)
}
clip.dispose()
