import { rmSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type AskOptions, classesOf, classifyLearned, encodeLearned } from '../../lib/continual/ask-learned.js'
import { promptsOf } from '../../lib/continual/learner-options.js'
import { type Learned, openLearned } from '../../lib/continual/open-learned.js'
import { runLearn } from '../../lib/continual/run-learn.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { CambiumError } from '../../lib/errors.js'
import type { Clip } from '../../lib/models/clip.js'
import type { StreamItem } from '../../lib/train/feature-stream.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyImages } from '../tiny-clip.js'
import { TASKS, writeStream } from './stream.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const small = { epochs: 1, batch: 4, lr: 1e-3 }
let stream: StreamSpec
let photos: string[]

beforeAll(async () => {
  stream = await writeStream(folder)
  await tinyImages(at('reference'), ['sea', 'sky'], 4)
  photos = (await Promise.all(TASKS.map(({ name, classes }) => Promise.all(classes.map((c) => listed(at(name, 'test', c))))))).flat(2)
})

const listed = async (place: string) => (await readdir(place)).sort().map((file) => join(place, file))

async function learned(method: string, settings: Record<string, unknown> = {}, imageSize?: number): Promise<Learned> {
  const out = at(`${method} ${JSON.stringify(settings).length} ${imageSize}`)
  const methods = [{ label: method, method, settings: { ...(method === 'zero-shot' ? {} : small), ...settings } }]
  await runLearn({ model: at('clip'), out, stream, methods, dtype: 'f32', imageSize })
  return openLearned(out)
}

async function collect<R>(results: AsyncIterable<R[]>): Promise<R[]> {
  const all: R[] = []
  for await (const some of results) all.push(...some)
  return all
}

const items = (paths: readonly string[]): StreamItem[] => paths.map((image) => ({ image }))
const scaleOf = async (clip: Clip) => Math.exp(await clip.logitScale.item())

/** Every answer is that of `predict`, whatever the blocks; probabilities are the softmax of exp(logit_scale) · cosine. */
async function expectPredictions(run: Learned, options: AskOptions = {}) {
  const predicted = await run.predict(photos)
  const told = await collect(classifyLearned(run, items(photos), { ...options, top: 100 }))
  expect(told.map(({ top, task, weight }) => ({ label: top?.[0].label, task, weight }))).toEqual(
    predicted.map(({ label, task, weight }) => ({ label, task, weight })),
  )
  const scale = await scaleOf(run.clip)
  for (const { top = [] } of told) {
    expect(top).toHaveLength(run.classes.length)
    expect(top.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 5)
  }
  for (const label of run.classes.slice(0, 2)) {
    // of two classes alone, the odds are those of the cosines
    const others = [label, run.classes[3]]
    const [one, two] = [await run.predict(photos, [others[0]]), await run.predict(photos, [others[1]])]
    const pairs = await collect(classifyLearned(run, items(photos), { ...options, classes: others }))
    for (const [i, { top = [] }] of pairs.entries()) {
      const found = top.find((guess) => guess.label === label.name)?.probability
      expect(found).toBeCloseTo(1 / (1 + Math.exp(scale * (two[i].score - one[i].score))), 4)
    }
  }
}

test.each([
  ['diki', { depth: 2, length: 2, lr: 0.5 }],
  ['prefix', { depth: 2, length: 2 }],
  ['sequential', {}],
  ['zero-shot', {}],
])('%s: classes with probabilities, as one image at a time is answered', async (method, settings) => {
  const run = await learned(method, settings)
  await expectPredictions(run, { batch: 5 })
  const [whole, single] = await Promise.all([32, 1].map(async (batch) => collect(encodeLearned(run, items(photos.slice(0, 7)), { batch }))))
  expect(whole).toEqual(single)
  for (const { feature = new Float32Array(), task } of whole) {
    expect(Math.hypot(...feature)).toBeCloseTo(1, 5)
    expect(task === undefined).toBe(method === 'sequential' || method === 'zero-shot')
  }
  run.dispose()
})

test('a method that learns beside references needs none of them to be asked', async () => {
  const run = await learned('zscl', { averageEvery: 2, reference: { images: at('reference') } })
  run.dispose()
  rmSync(at('reference'), { recursive: true })
  const again = await openLearned(run.folder)
  await expectPredictions(again)
  again.dispose()
})

test('a run at another image size is asked at that size', async () => {
  const run = await learned('sequential', {}, 16)
  expect(run.clip.config.vision.imageSize).toBe(16)
  await expectPredictions(run)
  run.dispose()
})

test('answers of a vote are those of its own block, whatever the batch', async () => {
  const settings = { depth: 1, length: 2, lr: 0.5, vote: 'batch', textWeight: 'batch-mean', voteBatch: 6 }
  const run = await learned('diki', settings)
  await expectPredictions(run, { batch: 2 })
  run.dispose()
})

test('what is no image, or none that can be read, has an error in its place', async () => {
  const run = await learned('diki', { depth: 2, length: 2, lr: 0.5 })
  writeFileSync(at('torn.png'), 'no image')
  const mixed: StreamItem[] = [
    { image: at('torn.png') },
    { text: 'a cat' },
    { image: photos[0] },
    { error: new CambiumError('E_DATA', 'a line') },
    { image: at('nowhere.png') },
    { image: photos[1] },
  ]
  for (const batch of [1, 2, 6]) {
    const told = await collect(classifyLearned(run, mixed, { batch }))
    expect(told.map(({ error }) => error?.code)).toEqual(['E_IMAGE', 'E_DATA', undefined, 'E_DATA', 'E_IMAGE', undefined])
    expect(told.map(({ item }) => item)).toEqual(mixed)
    expect(told[0].error?.message).toMatch(/torn\.png/)
    expect(told[1].error?.message).toMatch(/expected an image, got a text/)
    expect(told[4].error?.message).toMatch(/nowhere\.png/)
    const [first, second] = await collect(classifyLearned(run, items(photos.slice(0, 2))))
    expect([told[2].top, told[5].top]).toEqual([first.top, second.top])
  }
  run.dispose()
})

test('classes of one task, own ones, and what cannot be', async () => {
  const run = await learned('diki', { depth: 2, length: 2, lr: 0.5 })
  expect(classesOf(run, 'cold').map(({ name }) => name)).toEqual(TASKS[1].classes)
  expect(classesOf(run)).toBe(run.classes)
  expect(() => classesOf(run, 'lukewarm')).toThrow(/task: expected one of warm, cold, grey, got lukewarm/)
  const own = promptsOf({ classNames: ['a bird', 'a fish'], templates: ['a {}.'] })
  const [told] = await collect(classifyLearned(run, items(photos.slice(0, 1)), { classes: own, top: 1 }))
  expect(told.top).toHaveLength(1)
  const refused = (options: Parameters<typeof classifyLearned>[2]) => collect(classifyLearned(run, items(photos), options))
  await expect(refused({ classes: [] })).rejects.toMatchObject({ code: 'E_DATA' })
  await expect(refused({ top: 0 })).rejects.toMatchObject({ code: 'E_OPTION' })
  await expect(refused({ batch: 0 })).rejects.toMatchObject({ code: 'E_OPTION' })
  await expect(refused({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough')
  await expect(collect(encodeLearned(run, items(photos), { normalize: false }))).rejects.toMatchObject({ code: 'E_OPTION' })
  run.dispose()
})
