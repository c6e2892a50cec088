import { join } from 'node:path'
import { cosineScores } from '../../lib/continual/cosine-scores.js'
import type { LearnTask } from '../../lib/continual/learner.js'
import { promptsOf } from '../../lib/continual/learner-options.js'
import { createDikiLearner } from '../../lib/continual/learners/diki.js'
import { type DikiSettings, dikiSettings } from '../../lib/continual/learners/diki-settings.js'
import type { Dataset } from '../../lib/data/dataset.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import type { Parameter } from '../../lib/tensor.js'
import { Trainer } from '../../lib/train/train.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const root = temporaryFolder()
const folder = (name: string) => join(root, name)
let clip: Clip
let sets: Dataset[]

beforeAll(async () => {
  clip = await Clip.load(tinyClip(folder('clip')), { dtype: 'f32' })
  const open = async (name: string, classes: readonly string[], count: number) =>
    openDataset(await tinyImages(folder(name), classes, count))
  sets = [await open('one', ['red', 'green', 'blue'], 7), await open('two', ['disc', 'ring'], 9)]
})
afterAll(() => clip.dispose())

const taskOf = (index: number): LearnTask => ({ index, name: `task ${index}`, train: sets[index], validation: sets[index] })

async function learnerOf(settings: Partial<DikiSettings> = {}, notes: string[] = []) {
  const options = dikiSettings.parse({ depth: 2, length: 3, lr: 0.5, epochs: 2, batch: 6, ...settings })
  return createDikiLearner(clip, options, { seed: 3, note: (text) => notes.push(text) })
}
type Learner = Awaited<ReturnType<typeof learnerOf>>

async function learnTask(learner: Learner, index: number): Promise<void> {
  const task = taskOf(index)
  const training = await learner.begin(task, {})
  if (!training) throw new Error('expected something to train')
  const { method, objective, options } = training
  const trainer = new Trainer(clip, { epochs: 1, batch: 4, ...options, method, objective, data: task.train })
  for await (const _ of trainer.run());
  await learner.end(task, trainer.averages)
  trainer.dispose()
}

/** Scores row by row, with what was selected. */
async function scoresOf(learner: Learner, data: Dataset, classes = data, options = {}) {
  const rows: number[][] = []
  const scored = await learner.score(
    data,
    promptsOf(classes),
    (scores, first, count) => {
      const width = scores.length / count
      for (let i = 0; i < count; i++) rows[first + i] = [...scores.subarray(i * width, (i + 1) * width)]
    },
    options,
  )
  return { rows, ...scored }
}

async function zeroShot(data: Dataset, classes = data) {
  const rows: number[][] = []
  await cosineScores(clip, undefined, data, promptsOf(classes), (scores, first, count) => {
    const width = scores.length / count
    for (let i = 0; i < count; i++) rows[first + i] = [...scores.subarray(i * width, (i + 1) * width)]
  })
  return rows
}
const bytesOf = async (parameters: readonly Parameter[]) => Promise.all(parameters.map((p) => p.floats()))

test('before any task, and after one that left its values at zero, scores are zero-shot to the bit', async () => {
  const learner = await learnerOf()
  expect((await scoresOf(learner, sets[0])).rows).toEqual(await zeroShot(sets[0]))
  await learner.begin(taskOf(0), {})
  await learner.end(taskOf(0))
  for (const data of sets) {
    const { rows, selection } = await scoresOf(learner, data)
    expect(rows).toEqual(await zeroShot(data))
    expect(selection?.weight.some((w) => w > 0.1)).toBe(true)
  }
  learner.dispose()
})

describe('after two tasks', () => {
  const notes: string[] = []
  let learner: Learner
  beforeAll(async () => {
    learner = await learnerOf({}, notes)
    await learnTask(learner, 0)
    await learnTask(learner, 1)
  })
  afterAll(() => learner.dispose())

  test('the log says why covariances are shrunk and how weights were calibrated', () => {
    expect(notes.length).toBe(4)
    expect(notes[0]).toMatch(/^task 0: covariance shrunk by .* 21 samples of \d+ dimensions, fewer than twice as many$/)
    expect(notes[1]).toMatch(/^task 0: weight σ\(.*fitted on held-out training images, because of shrinkage/)
  })

  test('it has learned something, and images choose their task', async () => {
    const { rows, selection, samples } = await scoresOf(learner, sets[1])
    expect(rows).not.toEqual(await zeroShot(sets[1]))
    expect([...samples]).toEqual(Array.from({ length: 18 }, (_, i) => i))
    expect(selection?.task.filter((t) => t === 1).length).toBeGreaterThan(9)
    expect(selection?.weight.every((w) => w >= 0 && w <= 1)).toBe(true)
  })

  test('no result depends on the batch, the block, the order of images or what is asked before', async () => {
    const data = sets[0]
    const whole = await scoresOf(learner, data)
    expect((await scoresOf(learner, data)).rows).toEqual(whole.rows)
    const order = [...data.samples.keys()].map((i) => (i * 8 + 5) % data.length)
    const shuffled = await scoresOf(learner, data.subset(order), data, { batch: 5, scoresAtOnce: 12 })
    expect(shuffled.rows).toEqual(order.map((i) => whole.rows[i]))
    expect([...(shuffled.selection?.weight ?? [])]).toEqual(order.map((i) => whole.selection?.weight[i]))
    for (const part of [order.slice(0, 1), order.slice(1, 9)])
      expect((await scoresOf(learner, data.subset(part), data)).rows).toEqual(part.map((i) => whole.rows[i]))
  })

  test('the true task of all is its bank with weight 1', async () => {
    const state = learner.state()
    expect(state.tensors.length).toBe(2 * 2 * 4)
    const { rows, selection } = await scoresOf(learner, sets[1], sets[1], { task: 1 })
    expect(selection).toBeUndefined()
    expect(rows).not.toEqual((await scoresOf(learner, sets[1], sets[1], { task: 0 })).rows)
  })

  /** What was kept of the learner, with the JSON as a copy. */
  const kept = () => {
    const { json, tensors, doubles } = learner.state()
    const read = async (name: string) => {
      const parameter = tensors.find((p) => p.name === name) as Parameter
      return { shape: parameter.shape, data: await parameter.floats() }
    }
    const readDoubles = async (name: string) => Float64Array.from(doubles?.get(name) as Float64Array)
    return { text: JSON.parse(JSON.stringify(json)), read, readDoubles }
  }

  test('at weight 1 each image is scored as by the bank that it chose', async () => {
    const { text, read, readDoubles } = kept()
    for (const task of text.tasks) task.calibration.offset = -1e6
    const other = await learnerOf()
    await other.restore(text, read, readDoubles)
    for (const data of sets) {
      const { rows, selection } = await scoresOf(other, data)
      const own = [(await scoresOf(other, data, data, { task: 0 })).rows, (await scoresOf(other, data, data, { task: 1 })).rows]
      expect([...(selection?.weight ?? [])]).toEqual(rows.map(() => 1))
      expect(rows).toEqual(rows.map((_, i) => own[selection?.task[i] ?? 0][i]))
    }
    const chosen = (await scoresOf(other, sets[1])).selection?.task
    expect(chosen?.some((t) => t === 1)).toBe(true)
    other.dispose()
  })

  test('what was kept gives the same scores in another learner, and weight 0 is zero-shot to the bit', async () => {
    const { text, read, readDoubles } = kept()
    const other = await learnerOf()
    await other.restore(text, read, readDoubles)
    for (const data of sets) expect(await scoresOf(other, data)).toEqual(await scoresOf(learner, data))
    for (const task of text.tasks) task.calibration.offset = 1e6
    await other.restore(text, read, readDoubles)
    for (const data of sets) expect((await scoresOf(other, data)).rows).toEqual(await zeroShot(data))
    await expect(other.restore({ ...text, learned: 'x' }, read, readDoubles)).rejects.toMatchObject({ code: 'E_RUN' })
    other.dispose()
  })
})

test.each(['sgd', 'adamw'] as const)(
  '%s: the next task moves no byte of the one before; a begun task goes on where it was',
  async (optimizer) => {
    const settings = { optimizer, momentum: 0.5, lr: undefined }
    const learner = await learnerOf(settings)
    const training = await learner.begin(taskOf(0), {})
    expect(training?.options).toMatchObject(
      optimizer === 'sgd' ? { optimizer: { name: 'sgd', momentum: 0.5 }, lr: 5 } : { optimizer: { name: 'adamw' }, lr: 0.01 },
    )
    await learnTask(learner, 0)
    const first = await bytesOf(learner.state().tensors)
    await learner.begin(taskOf(1), {})
    const { json, tensors, doubles } = learner.state()
    expect(json.learned).toBe(1)
    const kept = new Map(await Promise.all(tensors.map(async (p) => [p.name, { shape: p.shape, data: await p.floats() }] as const)))
    const resumed = await learnerOf(settings)
    await resumed.restore(
      json,
      async (name) => kept.get(name) ?? Promise.reject(new Error(name)),
      async (name) => doubles?.get(name) ?? new Float64Array(),
    )
    await learnTask(resumed, 1)
    await learnTask(learner, 1)
    expect(await bytesOf(learner.state().tensors.slice(0, first.length))).toEqual(first)
    expect(await bytesOf(resumed.state().tensors)).toEqual(await bytesOf(learner.state().tensors))
    expect(resumed.state().doubles).toEqual(learner.state().doubles)
    expect(learner.parameterCount).toBe(learner.state().tensors.reduce((sum, p) => sum + p.count, 0))
    learner.dispose()
    resumed.dispose()
  },
)

test("the authors' options and the paper's calibration", async () => {
  const notes: string[] = []
  const learner = await learnerOf({ shrinkage: 'none', calibration: 'paper', vote: 'batch', textWeight: 'batch-mean', voteBatch: 4 }, notes)
  await learnTask(learner, 0)
  await learnTask(learner, 1)
  expect(notes.every((note) => /leave the covariance singular/.test(note))).toBe(true)
  const { selection } = await scoresOf(learner, sets[0])
  for (let at = 0; at < 20; at += 4) expect(new Set(selection?.task.subarray(at, at + 4)).size).toBe(1)
  learner.dispose()
})

test('disposing gives back the device', async () => {
  const { tensors, live } = native.memory()
  const learner = await learnerOf()
  await learnTask(learner, 0)
  await scoresOf(learner, sets[1])
  learner.dispose()
  expect(native.memory()).toMatchObject({ tensors, live })
})
