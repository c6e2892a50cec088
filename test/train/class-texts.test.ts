// What continual methods ask of the trainer: a text a class, terms of the loss, states of their own, the best epoch.
import { join } from 'node:path'
import type { Dataset } from '../../lib/data/dataset.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { ClassCrossEntropy } from '../../lib/objectives/cross-entropy.js'
import type { Objective } from '../../lib/objectives/objective.js'
import { add, l2Normalize, linear, sum } from '../../lib/ops.js'
import { noGradient, Parameter, step, Tensor } from '../../lib/tensor.js'
import { type RunOptions, Trainer, type TrainerOptions } from '../../lib/train/train.js'
import { relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { eventsOf, losses } from './events-of.js'

const NAMES = ['red', 'green', 'blue']
const classTexts = NAMES.map((name) => `a ${name} photo`)
const folder = temporaryFolder()
let data: Dataset
let clip: Clip

beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
  data = await openDataset(await tinyImages(join(folder, 'images'), NAMES, 8))
})
afterAll(() => clip.dispose())

type Settings = Partial<TrainerOptions> & { stopAfter?: number }

async function train({ stopAfter, ...settings }: Settings = {}, run: RunOptions = {}) {
  const adapter = new RAdapter(clip, { drop: 0 })
  const objective = settings.objective ?? new ClassCrossEntropy(clip.logitScale)
  const shared = { data, epochs: 2, batch: 8, lr: 1e-3, seed: 3, ema: false, augment: false, classTexts } as const
  const trainer = new Trainer(clip, { ...shared, ...settings, method: adapter, objective })
  const events = await eventsOf(trainer, stopAfter, run)
  const factors = await Promise.all(adapter.parameters.map((p) => p.floats()))
  trainer.dispose()
  adapter.dispose()
  return { events, factors }
}
const same = (a: Float32Array[], b: Float32Array[]) => a.every((factor, i) => Buffer.from(factor.buffer).equals(Buffer.from(b[i].buffer)))

test('a text a class: the objective is given every class and the class of each image', async () => {
  const seen: number[][][] = []
  const own = new ClassCrossEntropy(clip.logitScale)
  const objective: Objective = {
    ...own,
    parameters: [],
    settings: {},
    loss: (image, text, labels) => {
      seen.push([[...image.shape], [...text.shape], [...labels.shape]])
      return own.loss(image, text, labels)
    },
  }
  const { events } = await train({ objective })
  const width = clip.config.projectionDim
  expect(seen).toEqual(Array(6).fill([[8, width], [3, width], [8]]))
  expect(losses(events).at(-1)).toBeLessThan(losses(events)[0])
})

test('micro-batches share the texts of the classes: the same step', async () => {
  const [whole, parts] = [await train({ epochs: 1 }), await train({ epochs: 1, accumulate: 4 })]
  expect(relativeError([losses(parts.events), losses(whole.events)])).toBeLessThan(1e-6)
  for (const [i, factor] of whole.factors.entries()) expect(relativeError([parts.factors[i], factor])).toBeLessThan(1e-3)
})

test('a term is added to the loss, and is given the step, its batch and the features', async () => {
  const calls: [number, number][] = []
  const plus = (value: number) => ({
    settings: { value },
    prepare: async (at: number, { samples }: { samples: Int32Array }) => {
      calls.push([at, samples.length])
      return [Tensor.scalar(value - at), Tensor.scalar(at)]
    },
    loss: (image: Tensor, text: Tensor, [rest, step]: readonly Tensor[]) => {
      expect([image.shape[0], text.shape[0]]).toEqual([8, 3])
      return add(rest, step)
    },
  })
  const [plain, more] = [await train({ epochs: 1 }), await train({ epochs: 1, terms: [plus(2), plus(0.5)] })]
  expect(relativeError([losses(more.events).map((loss) => loss - 2.5), losses(plain.events)])).toBeLessThan(1e-6)
  expect(same(more.factors, plain.factors)).toBe(true)
  expect(calls).toEqual([0, 0, 1, 1, 2, 2].map((at) => [at, 8]))
  const pulled = { settings: {}, prepare: async () => [], loss: (image: Tensor) => sum(l2Normalize(image)) }
  expect(same((await train({ epochs: 1, terms: [pulled] })).factors, plain.factors)).toBe(false)
})

test('the best epoch is put back, the first of equals; stopped and resumed, to the same bits', async () => {
  const scores = [0.2, 0.7, 0.7, 0.1]
  const keepBest = async (epoch: number) => scores[epoch]
  const two = await train({ epochs: 4, keepBest, stopAfter: 100, out: join(folder, 'best') })
  const told = two.events.flatMap((e) => (e.type === 'scored' ? [[e.epoch, e.score, e.best]] : []))
  expect(told).toEqual([
    [0, 0.2, true],
    [1, 0.7, true],
    [2, 0.7, false],
    [3, 0.1, false],
  ])
  expect(same(two.factors, (await train({ epochs: 4 })).factors)).toBe(false)
  const second = await train({ epochs: 4, keepBest: async (epoch) => Number(epoch === 1) })
  expect(same(two.factors, second.factors)).toBe(true)
  const out = join(folder, 'stopped')
  await train({ epochs: 4, keepBest, out, stopAfter: 10 })
  const rest = await train({ epochs: 4, keepBest: async (epoch) => (epoch === 3 ? 0.1 : Number.NaN), out }, { resume: true })
  expect(same(rest.factors, two.factors)).toBe(true)
  const again = await train({ epochs: 4, keepBest, out: join(folder, 'best') }, { resume: true })
  expect(same(again.factors, two.factors)).toBe(true)
})

test('a state of its own goes with the checkpoints', async () => {
  const run = async (out: string, settings: Settings, run: RunOptions = {}) => {
    const steps = Parameter.named('steps', Float32Array.of(0), [1])
    const afterStep = (done: number) => steps.write(Float32Array.of(done))
    await train({ out: join(folder, out), afterStep, extraState: [steps], checkpointEvery: 2, ...settings }, run)
    const value = await steps.item()
    steps.dispose()
    return value
  }
  expect(await run('own', { stopAfter: 4 })).toBe(4)
  expect(await run('own', { afterStep: () => {} }, { resume: true })).toBe(4)
})

test('class texts that are not one a class are refused', async () => {
  await expect(train({ classTexts: classTexts.slice(1) })).rejects.toThrow(/classTexts: expected one for each of 3 classes, got 2/)
})

test('cross-entropy over classes is what the ops say', async () => {
  const image = Tensor.from(Float32Array.of(3, 4, 1, 0), [2, 2])
  const text = Tensor.from(Float32Array.of(0, 2, 5, 0, 1, 1), [3, 2])
  const scale = Math.exp(await clip.logitScale.item())
  const loss = await step(() =>
    noGradient(() => {
      const labels = Tensor.from(Int32Array.of(1, 1), [2], 'i32')
      return {
        loss: new ClassCrossEntropy(clip.logitScale).loss(image, text, labels),
        logits: linear(l2Normalize(image), l2Normalize(text), { dtype: 'f32' }),
      }
    }),
  )
  const logits = await loss.logits.floats()
  const nll = [0, 1].map((row) => {
    const own = [0, 1, 2].map((c) => scale * logits[row * 3 + c])
    return Math.log(own.reduce((total, logit) => total + Math.exp(logit - own[1]), 0))
  })
  expect(await loss.loss.item()).toBeCloseTo((nll[0] + nll[1]) / 2, 4)
  for (const tensor of [image, text, loss.loss, loss.logits]) tensor.dispose()
})
