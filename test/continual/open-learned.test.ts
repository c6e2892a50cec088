import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { accuracy } from '../../lib/continual/evaluate-stage.js'
import { promptsOf } from '../../lib/continual/learner-options.js'
import { type Learned, openLearned } from '../../lib/continual/open-learned.js'
import { type RunLearnEvent, runLearn } from '../../lib/continual/run-learn.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { evaluate } from '../../lib/train/evaluate.js'
import { temporaryFolder } from '../temporary-folder.js'
import { TASKS, writeStream } from './stream.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const training = { epochs: 2, batch: 4, lr: 1e-3 }
let stream: StreamSpec

beforeAll(async () => {
  stream = await writeStream(folder)
})

async function run(method: string, settings: Record<string, unknown>) {
  const notes: string[] = []
  const onEvent = (event: RunLearnEvent) => event.type === 'note' && notes.push(event.text)
  const methods = [{ label: method, method, settings }]
  const reports = await runLearn({ model: at('clip'), out: at(method), stream, methods, dtype: 'f32', saveModel: true, onEvent })
  if (!reports) throw new Error('expected a report')
  return { report: reports[0], notes }
}

const images = (name: string) => {
  const classes = TASKS.find((task) => task.name === name)?.classes ?? []
  return classes.flatMap((label) => readdirSync(at(name, 'test', label)).map((file) => ({ label, path: at(name, 'test', label, file) })))
}

/** Share of a task's test images that are given their class among all that were learned. */
async function shareOf(learned: Learned, name: string): Promise<number> {
  const shown = images(name)
  const predictions = await learned.predict(shown.map(({ path }) => path))
  return predictions.filter(({ label }, i) => label === shown[i].label).length / shown.length
}

test('plain weights: an ordinary checkpoint, and the same answers from the folder of the run', async () => {
  const { report, notes } = await run('sequential', training)
  expect(notes).toEqual([])
  const last = report.stages[3].sets
  const saved = await Clip.load(at('sequential', 'model'), { dtype: 'f32' })
  const data = await openDataset(at('cold', 'test'), { templates: stream.templates as string[] })
  const evaluation = await evaluate(saved, [{ name: 'cold', data }])
  expect(evaluation.cold).toMatchObject({ top1: last.cold.own })
  saved.dispose()

  const learned = await openLearned(at('sequential'), { dtype: 'f32' })
  expect(learned.tasks.map(({ name, classNames }) => [name, classNames.length])).toEqual(
    TASKS.map(({ name, classes }) => [name, classes.length]),
  )
  for (const { name } of TASKS) expect([name, await shareOf(learned, name)]).toEqual([name, last[name].union])
  expect(await learned.predict([])).toEqual([])
  const [only] = await learned.predict([images('warm')[0].path], [{ name: 'anything', prompts: ['a thing'] }])
  expect(only).toEqual({ label: 'anything', score: expect.any(Number) })
  learned.dispose()
})

test('a method that selects tells the task and the weight; it has no plain weights to save', async () => {
  const { report, notes } = await run('diki', { ...training, depth: 2, length: 2, lr: 0.5 })
  expect(notes.at(-1)).toMatch(/diki: what was learned is no plain weights/)
  expect(readdirSync(at('diki'))).not.toContain('model')
  const { tensors } = native.memory()
  const learned = await openLearned(at('diki'), { dtype: 'f32' })
  for (const { name } of TASKS) expect([name, await shareOf(learned, name)]).toEqual([name, report.stages[3].sets[name].union])
  const predictions = await learned.predict(images('grey').map(({ path }) => path))
  for (const { task, weight } of predictions) {
    expect(TASKS.map(({ name }) => name)).toContain(task)
    expect(weight).toBeGreaterThanOrEqual(0)
    expect(weight).toBeLessThanOrEqual(1)
  }
  const data = await openDataset(at('grey', 'test'), { templates: stream.templates as string[] })
  expect((await accuracy(learned.learner, data, promptsOf(data))).value).toBe(report.stages[3].sets.grey.own)
  learned.dispose()
  expect(native.memory().tensors).toBe(tensors)
})

test('what references are encoded is told while it is; stopping there stops the run', async () => {
  const settings = { ...training, reference: { images: at('watched'), templates: ['a {}.', 'the {}.'] } }
  const methods = [{ label: 'zscl', method: 'zscl', settings }]
  const told: string[] = []
  const stop = new AbortController()
  const onEvent = (event: RunLearnEvent) => {
    if (event.type !== 'prepare') return
    told.push(`${event.what} ${event.done}/${event.total}`)
    if (event.what === 'reference images') stop.abort()
  }
  const options = { model: at('clip'), out: at('zscl'), stream, methods, dtype: 'f32', onEvent } as const
  expect(await runLearn({ ...options, signal: stop.signal })).toBeUndefined()
  expect(told).toEqual(['reference images 6/6'])
  const [report] = (await runLearn(options)) ?? []
  expect(told.slice(1)).toEqual(['reference images 6/6', 'reference texts 4/4'])
  expect(report.stages).toHaveLength(4)
})

test('another model, or a folder without a run, is refused', async () => {
  await expect(openLearned(at('diki'), { model: at('sequential', 'model') })).rejects.toMatchObject({ code: 'E_BASE' })
  await expect(openLearned(at('clip'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
})
