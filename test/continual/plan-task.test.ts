/** The estimate of a task against the largest sum of tensors that a small run reached, for every method. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LearnTask } from '../../lib/continual/learner.js'
import { createLearner } from '../../lib/continual/learners/registry.js'
import { planTask } from '../../lib/continual/plan-task.js'
import { clipTensors } from '../../lib/formats/clip-tensors.js'
import { clipConfigToJson, parseClipConfig } from '../../lib/formats/hf-config.js'
import { writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { Trainer } from '../../lib/train/train.js'
import { tensors } from '../merge/made-up.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { smallTasks } from './small-task.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let tasks: LearnTask[]
let weightBytes: number

type Settings = Readonly<Record<string, unknown>> & { readonly reference?: string }

beforeAll(async () => {
  tinyClip(at('clip')) // its tokenizer and preprocessing; the weights are larger ones
  const layers = { hidden_size: 192, intermediate_size: 768, num_hidden_layers: 4, num_attention_heads: 3 }
  const config = parseClipConfig({
    model_type: 'clip',
    projection_dim: 128,
    vision_config: { ...layers, patch_size: 8, image_size: 40 },
    text_config: { ...layers, vocab_size: 600, max_position_embeddings: 24, bos_token_id: 598, eos_token_id: 599 },
  })
  weightBytes = 4 * [...clipTensors(config).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0)
  const spec = Object.fromEntries([...clipTensors(config)].map(([name, shape]) => [name, { shape, size: 0.05 }]))
  await writeSafetensors(at('clip', 'model.safetensors'), tensors(spec))
  writeFileSync(at('clip', 'config.json'), JSON.stringify(clipConfigToJson(config)))
  tasks = await smallTasks(at('tasks'), [
    ['red', 'green'],
    ['blue', 'black', 'white'],
  ])
  await tinyImages(at('reference'), ['sea', 'sky'], 10)
})

const small = { epochs: 1, batch: 12, lr: 1e-4 }

/** Estimated and measured bytes of tensors in the second task, model included. */
async function measured(method: string, settings: Record<string, unknown> = {}) {
  const others = native.memory().live // of test files before this one in the process
  const clip = await Clip.load(at('clip'), { dtype: 'f32' })
  const learner = await createLearner(clip, method, { ...small, ...settings }, { seed: 0 })
  let result = { estimate: 0, peak: 0, held: 0, flops: 0 }
  for (const task of tasks) {
    const training = await learner.begin(task, {})
    if (!training) throw new Error('expected a method that trains')
    const options = { seed: 0, epochs: 1, batch: 12, ...training.options, data: task.train, method: training.method }
    const trainer = new Trainer(clip, { ...options, objective: training.objective, augment: false })
    const { memory, flops } = planTask(clip, trainer.options, training.beside)
    native.resetPeak()
    for await (const event of trainer.run())
      if (event.type === 'end')
        result = { estimate: memory.total - memory.base - memory.data, peak: event.peakBytes - others, held: memory.held, flops }
    await learner.end(task, trainer.averages)
    trainer.dispose()
  }
  learner.dispose()
  clip.dispose()
  return result
}

test.each([
  ['sequential', 0, {}],
  ['wise-ft', 1, {}],
  ['lwf', 1, {}],
  ['zscl', 2, { reference: 'reference' }],
  ['zscl', 0, { reference: 'reference', l2: 0, averageEvery: 0 }],
  ['diki', 0, { depth: 4 }],
  ['prefix', 0, { depth: 4 }],
])('%s, %i copies of the weights: the estimate is near the measured peak', async (method, copies, { reference, ...settings }: Settings) => {
  const own = reference ? { reference: { images: at(reference) } } : {}
  const { estimate, peak, held } = await measured(method, { ...settings, ...own })
  // 0.99 to 1.07, ZSCL's the largest: its references are not encoded at once with the batch; without its copies it is 0.73.
  expect(estimate / peak).toBeGreaterThan(0.95)
  expect(estimate / peak).toBeLessThan(1.1)
  // Statistics of two tasks of 128 dimensions, features and answers are small beside a copy of 4 M weights.
  expect(held / weightBytes - copies).toBeGreaterThan(-1e-6) // the temperature does not train
  expect(held / weightBytes - copies).toBeLessThan(0.05)
})

test('statistics, banks of earlier tasks and their stack are counted to the byte', async () => {
  const { held } = await measured('diki', { depth: 4, length: 8 })
  const gaussian = 8 * (128 + 2 * ((128 * 129) / 2))
  const bank = 4 * 2 * 4 * 2 * 8 * 192 // towers, blocks, keys and values, slots, width
  expect(held).toBe(2 * gaussian + 2 * bank)
})

test('the teacher and the references take operations too', async () => {
  const flops = async (method: string, settings = {}) => (await measured(method, settings)).flops
  const [plain, taught, beside] = [
    await flops('sequential'),
    await flops('lwf'),
    await flops('zscl', { reference: { images: at('reference') }, referenceBatch: 6 }),
  ]
  expect(taught).toBeGreaterThan(1.2 * plain) // forward of the same images, and the texts of the task before
  expect(taught).toBeLessThan(1.6 * plain)
  expect(beside).toBeGreaterThan(1.35 * plain) // half as many images again
  expect(beside).toBeLessThan(1.55 * plain)
})

test('a budget that the copies break is refused with what they take', async () => {
  const clip = await Clip.load(at('clip'), { dtype: 'f32' })
  const learner = await createLearner(clip, 'wise-ft', small, { seed: 0 })
  const training = await learner.begin(tasks[0], {})
  if (!training) throw new Error('expected a method that trains')
  const options = { seed: 0, epochs: 1, batch: 12, ...training.options, data: tasks[0].train, method: training.method }
  const trainer = new Trainer(clip, { ...options, objective: training.objective })
  const { bytes } = planTask(clip, trainer.options)
  expect(planTask(clip, trainer.options, {}, bytes).bytes).toBe(bytes)
  expect(() => planTask(clip, trainer.options, training.beside, bytes)).toThrow(/memory budget.*held \d+ MB/)
  trainer.dispose()
  learner.dispose()
  clip.dispose()
})
