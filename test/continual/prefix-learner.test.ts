// A prompt for each task with key matching, on a tiny CLIP with made-up images.
import { join } from 'node:path'
import { cosineScores } from '../../lib/continual/cosine-scores.js'
import type { ClassPrompts, Learner, LearnTask, ScoreOptions, TaskTraining } from '../../lib/continual/learner.js'
import { promptsOf } from '../../lib/continual/learner-options.js'
import { createPrefixLearner, type PrefixLearnerOptions } from '../../lib/continual/learners/prefix.js'
import type { Dataset } from '../../lib/data/dataset.js'
import { Prefix } from '../../lib/methods/prefix.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { type Parameter, synchronize } from '../../lib/tensor.js'
import { encodeImages } from '../../lib/train/features.js'
import { relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'
import { bitsOf, learnTask, smallTasks } from './small-task.js'

const folder = temporaryFolder()
let clip: Clip
let tasks: LearnTask[]

beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
  tasks = await smallTasks(folder, [
    ['red', 'green'],
    ['blue', 'grey', 'pink'],
  ])
})
afterAll(() => clip.dispose())

const make = (options: PrefixLearnerOptions = {}) =>
  createPrefixLearner(clip, { batch: 8, depth: 2, length: 3, lr: 1e-2, ...options }, { seed: 4 })

async function scoresOf(learner: Learner, data: Dataset, classes: readonly ClassPrompts[], options: ScoreOptions = {}) {
  const values = new Float32Array(data.length * classes.length)
  const scored = await learner.score(data, classes, (scores, first) => values.set(scores, first * classes.length), options)
  return { values, ...scored }
}

test('before the first task it answers as the pretrained model; with a fresh prompt it does not any more', async () => {
  const learner = await make()
  const [{ train }] = tasks
  const classes = promptsOf(train)
  const frozen = new Float32Array(train.length * 2)
  await cosineScores(clip, undefined, train, classes, (scores, first) => frozen.set(scores, first * 2))
  expect((await scoresOf(learner, train, classes)).values).toEqual(frozen)
  await learner.begin(tasks[0], {})
  const { values } = await scoresOf(learner, train, classes, { task: 0 })
  expect(relativeError([values, frozen])).toBeGreaterThan(1e-3)
  learner.dispose()
})

test('a prompt takes attention from the tokens although it starts near zero: the features of images and texts move', async () => {
  const prefix = new Prefix(clip, { depth: 2, length: 3 })
  const features = async (which?: Prefix) => (await encodeImages(clip, tasks[0].train, which)).values
  expect(relativeError([await features(prefix), await features()])).toBeGreaterThan(1e-3)
  const none = await prefix.at(0)
  const whole = await prefix.at(1)
  expect((await encodeImages(clip, tasks[0].train, none)).values).toEqual(await features())
  expect((await encodeImages(clip, tasks[0].train, whole)).values).toEqual(await features(prefix))
  await expect(prefix.at(0.5)).rejects.toMatchObject({ code: 'E_OPTION' })
  prefix.dispose()
})

test('tasks learn apart: prompts and keys of a finished task keep their bits, the next prompt begins with them, its key does not', async () => {
  const learner = await make()
  const { losses } = await learnTask(clip, learner, tasks[0])
  expect(losses.at(-1)).toBeLessThan(losses[0])
  const first = await bitsOf(learner.state().tensors)
  expect(first.size).toBe(2 * 2 * 2 + 1) // keys and values of two blocks of two towers, and the key
  const training = await learner.begin(tasks[1], {})
  const next = await bitsOf(training?.method.parameters as Prefix['parameters'])
  for (const [name, value] of next) {
    const before = first.get(name.replace('task-1', 'task-0'))
    if (name.endsWith('.key')) expect(value).not.toBe(before)
    else expect(value).toBe(before)
  }
  await learnTask(clip, learner, tasks[1])
  const both = await bitsOf(learner.state().tensors)
  expect(both.size).toBe(2 * first.size)
  for (const [name, value] of first) expect(both.get(name)).toBe(value)
  expect(learner.parameterCount).toBe(learner.state().tensors.reduce((sum, { count }) => sum + count, 0))
  learner.dispose()
})

test('a key learns by its pull alone, towards the frozen features of its images', async () => {
  const { values } = await encodeImages(clip, tasks[0].train)
  const meanCosine = (key: Float32Array) => {
    const dot = values.reduce((sum, v, i) => sum + v * key[i % key.length], 0)
    return (dot / Math.hypot(...key) / values.length) * key.length
  }
  const learned = async (pull: number) => {
    const learner = await make({ pull })
    const { method } = (await learner.begin(tasks[0], {})) as TaskTraining
    const before = await (method as Prefix).key.floats()
    await learnTask(clip, learner, tasks[0]) // begins anew with the same draws
    const key = learner.state().tensors.find(({ name }) => name === 'task-0.key') as Parameter
    const after = await key.floats()
    learner.dispose()
    return { before, after }
  }
  const [pulled, left] = [await learned(1), await learned(0)]
  expect(meanCosine(pulled.after)).toBeGreaterThan(meanCosine(pulled.before) + 0.01)
  expect(left.after).toEqual(left.before)
})

test('while a prompt trains, classes are said under it as it is now', async () => {
  const learner = await make()
  const { method } = (await learner.begin(tasks[0], {})) as TaskTraining
  const [{ train }] = tasks
  const scores = async () => (await scoresOf(learner, train, promptsOf(train), { task: 0 })).values
  const before = await scores()
  for (const parameter of method.parameters)
    if (parameter.name.includes('.text.')) parameter.write((await parameter.floats()).map((v, i) => v + Math.sin(i)))
  expect(relativeError([await scores(), before])).toBeGreaterThan(1e-3)
  learner.dispose()
})

test('an image is given the task whose key is nearest, by itself: order and company change nothing', async () => {
  const learner = await make({ lr: 3e-2 })
  for (const task of tasks) await learnTask(clip, learner, task)
  const { train } = tasks[1]
  const classes = promptsOf(train)
  const whole = await scoresOf(learner, train, classes, { batch: 64 })
  const keys = await Promise.all(
    learner
      .state()
      .tensors.filter(({ name }) => name.endsWith('.key'))
      .map((key) => key.floats()),
  )
  const { values } = await encodeImages(clip, train)
  const width = clip.config.projectionDim
  for (let i = 0; i < train.length; i++) {
    const cosines = keys.map((key) => {
      const norm = Math.hypot(...key)
      return key.reduce((sum, v, k) => sum + (v * values[i * width + k]) / norm, 0)
    })
    expect(whole.selection?.task[i]).toBe(cosines[0] >= cosines[1] ? 0 : 1)
  }
  const order = Array.from({ length: train.length }, (_, i) => (i * 7) % train.length)
  const shuffled = await scoresOf(learner, train.subset(order), classes, { batch: 5 })
  for (const [row, sample] of order.entries()) {
    expect(shuffled.values.slice(row * 3, row * 3 + 3)).toEqual(whole.values.slice(sample * 3, sample * 3 + 3))
    expect(shuffled.selection?.task[row]).toBe(whole.selection?.task[sample])
  }
  const told = await scoresOf(learner, train, classes, { task: 1 })
  expect(told.selection?.task.every((task) => task === 1)).toBe(true)
  learner.dispose()
})

test('what was saved is the same method again, and learns on to the same bits', async () => {
  const learner = await make()
  await learnTask(clip, learner, tasks[0])
  const { json, tensors } = learner.state()
  const saved = new Map<string, Float32Array>()
  for (const tensor of tensors) saved.set(tensor.name, (await tensor.floats()).slice())
  const again = await make()
  const read = async (name: string) => ({ shape: [], data: saved.get(name) as Float32Array })
  await again.restore(JSON.parse(JSON.stringify(json)), read, async () => new Float64Array())
  const [{ train }] = tasks
  const classes = promptsOf(train)
  expect((await scoresOf(again, train, classes)).values).toEqual((await scoresOf(learner, train, classes)).values)
  for (const one of [learner, again]) await learnTask(clip, one, tasks[1])
  expect(await bitsOf(again.state().tensors)).toEqual(await bitsOf(learner.state().tensors))
  learner.dispose()
  again.dispose()
})

test('nothing stays on the device', async () => {
  const settled = async () => {
    await synchronize()
    const { live, tensors } = native.memory()
    return { live, tensors }
  }
  const before = await settled()
  const learner = await make()
  await learner.begin(tasks[0], {})
  for (const task of tasks) await learnTask(clip, learner, task)
  await scoresOf(learner, tasks[0].train, promptsOf(tasks[0].train))
  await learner.begin(tasks[1], {})
  learner.dispose()
  expect(await settled()).toEqual(before)
})
