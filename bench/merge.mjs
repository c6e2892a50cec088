/**
 * Trains a few R-Adapter steps on the benchmark's CLIP, merges, saves in f32 and bf16, and writes our features of the
 * merged folders, for bench/peers/check_clip.py to compare with transformers.
 *
 *   node bench/merge.mjs --model DIR --out DIR [--alpha 0.5] [--steps 3]
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { readInputs } from './inputs.mjs'

const require = createRequire(import.meta.url)
const { AdamW, backward, Clip, merge, MpmNceLoss, noGradient, RAdapter, scope, step, synchronize, Tensor } = require('../dist/index.js')
const { writeSafetensors } = require('../dist/formats/safetensors-write.js')

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    out: { type: 'string' },
    alpha: { type: 'string', default: '0.5' },
    steps: { type: 'string', default: '3' },
  },
})
const clip = await Clip.load(args.model)
const sets = await readInputs(args.model)
const adapter = new RAdapter(clip, { drop: 0 })
const objective = new MpmNceLoss()
const optimizer = new AdamW(adapter.parameters)
for (let i = 0; i < Number(args.steps); i++) {
  const { pixels, shape, ids, labels } = sets[i % sets.length]
  await step(() => {
    const image = clip.encodeImage(Tensor.from(pixels, shape), adapter)
    backward(objective.loss(image, clip.encodeText(ids, adapter), Tensor.from(labels, [labels.length], 'i32')))
    optimizer.update(5e-4)
  })
}
await synchronize()
const start = performance.now()
const merged = await merge(clip, adapter, { alpha: Number(args.alpha) })
const report = { merge_seconds: (performance.now() - start) / 1000 }
for (const dtype of ['f32', 'bf16']) {
  const folder = join(args.out, dtype)
  await merged.save(folder, { dtype })
  const again = await Clip.load(folder, { dtype: 'f32' })
  const { pixels, shape, ids } = sets[0]
  const features = scope(() => noGradient(() => [again.encodeImage(Tensor.from(pixels, shape)), again.encodeText(ids)]))
  const tensors = await Promise.all(
    features.map(async (t, i) => ({
      name: ['image_features', 'text_features'][i],
      dtype: 'F32',
      shape: t.shape,
      data: new Uint8Array((await t.floats()).buffer),
    })),
  )
  await writeSafetensors(join(args.out, `${dtype}.safetensors`), tensors)
  again.dispose()
}
process.stdout.write(`${JSON.stringify(report)}\n`)
