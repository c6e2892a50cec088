// The methods that go on training all weights, on a tiny CLIP with made-up images: each against its equation, and against sequential
// fine-tuning where its options make it that.
import { join } from 'node:path'
import type { Learner, LearnTask, TaskTraining } from '../../lib/continual/learner.js'
import { createJointLearner, union } from '../../lib/continual/learners/joint.js'
import { createLwfLearner, type LwfOptions } from '../../lib/continual/learners/lwf.js'
import { createSequentialLearner } from '../../lib/continual/learners/sequential.js'
import { createWiseFtLearner } from '../../lib/continual/learners/wise-ft.js'
import { createZsclLearner, type ZsclOptions } from '../../lib/continual/learners/zscl.js'
import { ReferenceSet } from '../../lib/continual/reference-set.js'
import { type Batch, batches } from '../../lib/data/batches.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { distillation } from '../../lib/objectives/distillation.js'
import { l2Normalize } from '../../lib/ops.js'
import { noGradient, step, synchronize, Tensor } from '../../lib/tensor.js'
import { relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { bitsOf, learnTask, smallTasks } from './small-task.js'

const folder = temporaryFolder()
let tasks: LearnTask[]
let model: string
let reference: ZsclOptions['reference']

beforeAll(async () => {
  model = tinyClip(join(folder, 'clip'))
  tasks = await smallTasks(folder, [
    ['red', 'green'],
    ['blue', 'grey', 'pink'],
  ])
  reference = { images: await tinyImages(join(folder, 'reference'), ['x', 'y', 'z'], 5), templates: ['{} of old.', 'an {}.'] }
})

type Make = (clip: Clip) => Promise<Learner>

const lr = 1e-3
const common = { lr, batch: 8, warmup: 0 }
const sequential: Make = (clip) => createSequentialLearner(clip, common)
const lwf =
  (options: LwfOptions): Make =>
  (clip) =>
    createLwfLearner(clip, { ...common, ...options })
const wise =
  (alpha: number): Make =>
  (clip) =>
    createWiseFtLearner(clip, { ...common, alpha })
const zscl =
  (options: Omit<ZsclOptions, 'reference'>): Make =>
  (clip) =>
    createZsclLearner(clip, { ...common, reference, ...options }, { seed: 1 })
const joint =
  (stages: 'last' | 'each'): Make =>
  (clip) =>
    createJointLearner(clip, { ...common, stages })

/** Learns tasks with a fresh model; what was there after each. */
async function run(make: Make, which: readonly LearnTask[] = tasks) {
  const clip = await Clip.load(model, { dtype: 'f32' })
  const learner = await make(clip)
  try {
    const bits: Map<string, string>[] = []
    const losses: number[][] = []
    for (const task of which) {
      losses.push((await learnTask(clip, learner, task)).losses)
      bits.push(await bitsOf(learner.state().tensors))
    }
    return { bits, losses }
  } finally {
    learner.dispose()
    clip.dispose()
  }
}

const values = (bits: Map<string, string>) =>
  new Map([...bits].map(([name, text]) => [name, new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer)]))

async function pretrained(): Promise<Map<string, string>> {
  const clip = await Clip.load(model, { dtype: 'f32' })
  const all = await bitsOf([...clip.weights.values()].filter(({ name }) => name !== 'logit_scale'))
  clip.dispose()
  return all
}

/** ‖a − b‖² over all weights. */
function distance2(a: Map<string, string>, b: Map<string, string>): number {
  const other = values(b)
  let total = 0
  for (const [name, mine] of values(a)) for (const [i, v] of mine.entries()) total += (v - (other.get(name) as Float32Array)[i]) ** 2
  return total
}

/** Makes it another model. */
async function disturb(clip: Clip): Promise<void> {
  for (const parameter of clip.weights.values()) {
    if (parameter.name === 'logit_scale') continue
    const noise = native.random(1, parameter.count, 0, parameter.count, 0).map((u) => 0.02 * u)
    parameter.write((await parameter.floats()).map((v, i) => v + noise[i]))
  }
}

test('sequential fine-tuning lowers the loss of each task and moves every weight but the temperature', async () => {
  const { bits, losses } = await run(sequential)
  const before = await pretrained()
  for (const [, of] of losses.entries()) expect(of.at(-1)).toBeLessThan(of[0])
  expect([...bits[0].keys()].sort()).toEqual([...before.keys()].sort())
  const still = [...bits[0]].filter(([name, value]) => value === before.get(name)).map(([name]) => name)
  expect(still).toEqual([])
})

describe('what is sequential fine-tuning to the bit', () => {
  test.each<[string, () => Make]>([
    ['LwF with weight 0', () => lwf({ weight: 0 })],
    ['WiSE-FT with α 1', () => wise(1)],
    ['ZSCL with nothing on', () => zscl({ imageWeight: 0, textWeight: 0, l2: 0, averageEvery: 0 })],
  ])('%s', async (_, make) => {
    expect((await run(make())).bits).toEqual((await run(sequential)).bits)
  })
})

test('WiSE-FT: α 0 never changes the model, 0.25 is a quarter of the way from the weights that the task began with', async () => {
  const before = await pretrained()
  expect((await run(wise(0))).bits).toEqual([before, before])
  const [first] = tasks
  const [quarter] = (await run(wise(0.25), [first])).bits
  const [whole] = (await run(sequential, [first])).bits
  for (const [name, got] of values(quarter)) {
    const [from, to] = [values(before).get(name) as Float32Array, values(whole).get(name) as Float32Array]
    expect(relativeError([got, from.map((v, i) => v + 0.25 * (to[i] - v))])).toBeLessThan(1e-6)
  }
})

test('LwF: on a first task the pretrained model is asked about its classes, later the model before about the earlier ones', async () => {
  const clip = await Clip.load(model, { dtype: 'f32' })
  const learner = await lwf({ weight: 1 })(clip)
  const settings = async (task: LearnTask) => {
    const training = await learner.begin(task, {})
    const [term] = training?.options.terms ?? []
    return term.settings.texts
  }
  expect(await settings(tasks[0])).toBeUndefined()
  await learner.end(tasks[0])
  expect(learner.state().json).toEqual({ seen: ['a green.', 'a red.'] })
  expect(await settings(tasks[1])).toEqual(['a green.', 'a red.'])
  learner.dispose()
  clip.dispose()
})

test('LwF: the teacher is the model that the task began with, whatever training has made of it since', async () => {
  const clip = await Clip.load(model, { dtype: 'f32' })
  const learner = await lwf({ weight: 3, textWeight: 0.5 })(clip)
  const { options } = (await learner.begin(tasks[0], {})) as TaskTraining
  const [term] = options.terms ?? []
  const loader = batches(tasks[0].train, { batchSize: 16, preprocessor: clip.preprocessor })
  const batch = (await loader.next()).value as Batch
  await loader.return()
  const encode = () => ({
    image: clip.encodeImage(Tensor.from(batch.pixels, batch.shape)),
    text: clip.encodeText(clip.tokenize(options.classTexts ?? [])),
  })
  const read = async (of: { image: Tensor; text: Tensor }) => [await of.image.floats(), await of.text.floats()]
  const before = await read(await step(() => noGradient(encode)))
  await disturb(clip)
  const inputs = await term.prepare(0, batch)
  const width = clip.config.projectionDim
  const normalised = (values: Float32Array) => l2Normalize(Tensor.from(values, [values.length / width, width]))
  const { got, want } = await step(() =>
    noGradient(() => {
      const now = encode()
      const teacher = { image: normalised(before[0]), text: normalised(before[1]) }
      const student = { image: l2Normalize(now.image), text: l2Normalize(now.text) }
      const said = distillation(student, teacher, { logScale: clip.logitScale, temperature: 2, textWeight: 0.5 })
      return { got: term.loss(now.image, now.text, inputs), want: said }
    }),
  )
  const [value, third] = [await got.item(), await want.item()]
  expect(Math.abs(value / (3 * third) - 1)).toBeLessThan(1e-5)
  const all = await step(() => noGradient(encode))
  expect(relativeError([await all.image.floats(), before[0]])).toBeGreaterThan(1e-2) // the model is another one now
  for (const tensor of [got, want, all.image, all.text, ...inputs]) tensor.dispose()
  learner.dispose()
  clip.dispose()
})

test('LwF: the first loss is that of sequential fine-tuning and T² times what the teacher is unsure of', async () => {
  // Student and teacher are the same at the first step, so the term is the entropy of the teacher; its gradient is zero, so the
  // first update is the same and the second loss still differs by nearly as much.
  const [plain, held] = [await run(sequential), await run(lwf({ weight: 2, texts: 'current' }))]
  const entropy = (held.losses[0][0] - plain.losses[0][0]) / (2 * 4)
  expect(entropy).toBeGreaterThan(0)
  expect(entropy).toBeLessThanOrEqual(Math.log(2) + 1e-6)
  expect(held.bits[1]).not.toEqual(plain.bits[1])
})

test('ZSCL: the pretrained model is the teacher in any task, both ways round; the ℓ2 term pulls to the weights at its start', async () => {
  const clip = await Clip.load(model, { dtype: 'f32' })
  const set = await ReferenceSet.open(clip, reference)
  const weights = { imageWeight: 2, textWeight: 3, temperature: 1.5 }
  const learner = await zscl({ ...weights, referenceBatch: 6, l2: 0.7 })(clip)
  await disturb(clip)
  const { options } = (await learner.begin(tasks[1], {})) as TaskTraining
  const { anchor } = options.optimizer ?? {}
  expect(anchor?.pull).toBe(0.7)
  const name = 'text_projection.weight'
  expect(await anchor?.tensors.get(name)?.floats()).toEqual(await clip.weights.get(name).floats())
  const [term] = options.terms ?? []
  const inputs = await term.prepare(4, { samples: new Int32Array(8) } as Batch)
  const batch = await set.batch({ seed: 1, task: 1 }, 4, 6)
  const { got, want } = await step(() =>
    noGradient(() => {
      const image = l2Normalize(clip.encodeImage(Tensor.from(batch.pixels, batch.shape)))
      const teacher = { image: Tensor.from(batch.image, image.shape), text: set.texts }
      const want = distillation({ image, text: set.texts }, teacher, { logScale: clip.logitScale, ...weights })
      return { got: term.loss(image, image, inputs), want }
    }),
  )
  expect(await got.item()).toBe(await want.item())
  for (const tensor of [got, want, ...inputs]) tensor.dispose()
  set.dispose()
  learner.dispose()
  clip.dispose()
})

test('ZSCL: what the optimizer leaves is replaced by the running mean, which counts the start as one', async () => {
  const clip = await Clip.load(model, { dtype: 'f32' })
  const every = 2
  const learner = await zscl({ averageEvery: every })(clip)
  const [name] = [...clip.weights.values()].map((p) => p.name).filter((n) => n.endsWith('fc1.weight'))
  const weight = () => clip.weights.get(name)
  for (const task of tasks) {
    const taken = [weight().floats()]
    await learnTask(clip, learner, task, (done) => {
      if ((done - 1) % every === 0) taken.push(weight().floats())
    })
    const all = await Promise.all(taken)
    expect(all.length).toBeGreaterThan(2)
    const mean = all[0].map((_, i) => all.reduce((sum, of) => sum + of[i], 0) / all.length)
    expect(relativeError([await weight().floats(), mean])).toBeLessThan(1e-6)
  }
  learner.dispose()
  clip.dispose()
})

test('ZSCL: the ℓ2 term keeps the weights near those that the task began with', async () => {
  const off = { imageWeight: 0, textWeight: 0, averageEvery: 0 }
  const before = await pretrained()
  const [first] = tasks
  const [free, held] = [(await run(sequential, [first])).bits[0], (await run(zscl({ ...off, l2: 300 }), [first])).bits[0]]
  expect(distance2(held, before)).toBeGreaterThan(0)
  expect(distance2(held, before)).toBeLessThan(0.5 * distance2(free, before))
})

test('ZSCL: distillation keeps what the model says of reference images, and its teacher is the pretrained model in every task', async () => {
  const off = { l2: 0, averageEvery: 0, lr: 3e-4 }
  const drift = async (make: Make) => {
    const clip = await Clip.load(model, { dtype: 'f32' })
    const set = await ReferenceSet.open(clip, reference)
    const before = (await set.batch({ seed: 0, task: 0 }, 0, 15)).pixels
    const encode = async () => {
      const out = await step(() => noGradient(() => l2Normalize(clip.encodeImage(Tensor.from(before, [15, 3, 40, 40])))))
      const features = await out.floats()
      out.dispose()
      return features
    }
    const start = await encode()
    const learner = await make(clip)
    for (const task of tasks) await learnTask(clip, learner, task)
    const end = await encode()
    learner.dispose()
    set.dispose()
    clip.dispose()
    return relativeError([end, start])
  }
  const weights = { imageWeight: 30, textWeight: 30 }
  const [free, held] = [
    await drift((clip) => createSequentialLearner(clip, { ...common, lr: 3e-4 })),
    await drift(zscl({ ...off, ...weights })),
  ]
  expect(held).toBeLessThan(0.7 * free)
})

test('joint training: one set of all tasks, classes numbered on; trained with the last task from the pretrained weights', async () => {
  const whole = union(tasks)
  expect(whole.classNames).toEqual(['green', 'red', 'blue', 'grey', 'pink'])
  expect([...new Set(whole.labels())]).toEqual([0, 1, 2, 3, 4])
  expect(whole.samples[0].id).toMatch(/^task-0\//)
  const before = await pretrained()
  const [last, each] = [await run(joint('last')), await run(joint('each'))]
  expect(last.bits[0]).toEqual(before)
  expect(last.losses[0]).toEqual([])
  expect(each.bits[0]).not.toEqual(before)
  expect(each.bits[1]).toEqual(last.bits[1]) // the first stage left no trace
  expect(last.losses[1]).toHaveLength(2 * 5)
})

test('joint training without the earlier data is refused', async () => {
  const alone = { ...tasks[1], previous: undefined }
  await expect(run(joint('last'), [alone])).rejects.toMatchObject({ code: 'E_OPTION', message: expect.stringContaining('all 2 tasks') })
})

test.each<[string, () => Make]>([
  ['sequential', () => sequential],
  ['lwf', () => lwf({})],
  ['wise-ft', () => wise(0.8)],
  ['zscl', () => zscl({})],
  ['joint', () => joint('each')],
])('%s keeps nothing on the device from task to task, and nothing when disposed', async (_, make) => {
  const settled = async () => {
    await synchronize()
    const { live, tensors } = native.memory()
    return { live, tensors }
  }
  const before = await settled()
  const clip = await Clip.load(model, { dtype: 'f32' })
  const learner = await make()(clip)
  const used: object[] = []
  for (let round = 0; round < 3; round++) {
    await learner.begin(tasks[0], {}) // a task that is given up
    await learnTask(clip, learner, tasks[0])
    used.push(await settled())
  }
  expect(used[2]).toEqual(used[1])
  await learner.begin(tasks[0], {})
  learner.dispose()
  clip.dispose()
  expect(await settled()).toEqual(before)
})
