import { join } from 'node:path'
import { readRunState } from '../../lib/checkpoint/run-state.js'
import type { Dataset } from '../../lib/data/dataset.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { RAdapter, type RAdapterOptions } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { MpmNceLoss } from '../../lib/objectives/mpm-nce.js'
import { type RunOptions, Trainer, type TrainerOptions } from '../../lib/train/train.js'
import { relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { eventsOf, losses } from './events-of.js'

const folder = temporaryFolder()
let data: Dataset
let clip: Clip

beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
  const images = await tinyImages(join(folder, 'images'), ['red', 'green', 'blue'], 8)
  data = await openDataset(images, { templates: ['a {}.', 'my {}.'] })
})
afterAll(() => clip.dispose())

type Settings = Partial<TrainerOptions> & { adapter?: RAdapterOptions; stopAfter?: number }

/** Trains a fresh adapter; returns its events, final factors and averages. */
async function train({ adapter: options = { drop: 0.3 }, stopAfter, ...settings }: Settings = {}, run: RunOptions = {}) {
  const adapter = new RAdapter(clip, options)
  const trainer = new Trainer(clip, {
    method: adapter,
    objective: new MpmNceLoss(),
    data,
    epochs: 2,
    batch: 8,
    lr: 1e-3,
    seed: 3,
    ...settings,
  })
  const events = await eventsOf(trainer, stopAfter, run)
  const factors = await Promise.all(adapter.parameters.map((p) => p.floats()))
  const averages = await Promise.all([...(trainer.averages ?? new Map()).values()].map((t) => t.floats()))
  trainer.dispose()
  adapter.dispose()
  return { events, factors, averages }
}

const bits = (all: Float32Array[]) => Buffer.concat(all.map((a) => Buffer.from(a.buffer, a.byteOffset, a.byteLength)))

test('a run learns, tells every step and ends', async () => {
  const { events } = await train({ epochs: 6, adapter: { drop: 0 } })
  expect(events[0]).toMatchObject({ type: 'start', steps: 18, from: 0 })
  expect(events.at(-1)).toMatchObject({ type: 'end', step: 18, reason: 'done' })
  const all = losses(events)
  expect(all).toHaveLength(18)
  expect(all.at(-1)).toBeLessThan(all[0])
})

test('the same seed gives the same bits, another seed others', async () => {
  const [a, b, c] = [await train(), await train(), await train({ seed: 4 })]
  expect(bits(a.factors).equals(bits(b.factors))).toBe(true)
  expect(bits(a.factors).equals(bits(c.factors))).toBe(false)
})

test('a run that is stopped and resumed ends with the same bits', async () => {
  const whole = await train()
  const out = join(folder, 'run')
  const first = await train({ out, stopAfter: 2 })
  expect(first.events.at(-1)).toMatchObject({ type: 'end', step: 2, reason: 'aborted' })
  expect((await readRunState(out))?.step).toBe(2)
  const rest = await train({ out }, { resume: true })
  expect(rest.events[0]).toMatchObject({ from: 2 })
  expect(bits(rest.factors).equals(bits(whole.factors))).toBe(true)
  expect(bits(rest.averages).equals(bits(whole.averages))).toBe(true)
  await expect(train({ out, lr: 2e-3 }, { resume: true })).rejects.toMatchObject({ code: 'E_RUN', message: expect.stringContaining('lr') })
  const other = train({ out, adapter: { drop: 0.4 } }, { resume: true })
  await expect(other).rejects.toMatchObject({ code: 'E_RUN', message: expect.stringContaining('drop') })
})

test('k micro-batches of B/k are a batch of B, with dropping on', async () => {
  const settings = { epochs: 1, adapter: { drop: 0.5 } }
  const [whole, parts] = [await train(settings), await train({ ...settings, accumulate: 4 })]
  expect(relativeError([losses(parts.events), losses(whole.events)])).toBeLessThan(1e-6)
  for (const [i, factor] of whole.factors.entries()) expect(relativeError([parts.factors[i], factor])).toBeLessThan(1e-3)
})

test('equal prompts once and cut text are exact', async () => {
  const settings = { epochs: 1, adapter: { drop: 0 } }
  const [saving, plain] = [await train(settings), await train({ ...settings, text: { dedupe: false, cut: false } })]
  expect(relativeError([losses(saving.events), losses(plain.events)])).toBeLessThan(1e-6)
  for (const [i, factor] of saving.factors.entries()) expect(relativeError([factor, plain.factors[i]])).toBeLessThan(1e-3)
})

test.each([
  ['dropping by token', { drop: 0.3, dropBy: 'token' as const }],
  ['low rank with a learned scale', { rank: 2, scale: 0.1 }],
])('the variant %s trains', async (_, adapter) => {
  const all = losses((await train({ epochs: 6, adapter, lr: 2e-3 })).events)
  expect(all.at(-1)).toBeLessThan(all[0])
})

test('options out of range are refused by name', async () => {
  await expect(train({ accumulate: 3 })).rejects.toMatchObject({ code: 'E_OPTION', message: expect.stringContaining('accumulate') })
  await expect(train({ batch: 100 })).rejects.toMatchObject({ code: 'E_OPTION', message: expect.stringContaining('batch') })
  await expect(train({ adapter: { rank: 500 } })).rejects.toMatchObject({ code: 'E_OPTION', message: expect.stringContaining('rank') })
})
