import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CambiumError } from '../../lib/errors.js'
import type { TrainEvent } from '../../lib/train/events.js'
import { LOG_FILE, RunLog, readRunLog, TENSORBOARD_FILE } from '../../lib/train/run-log.js'
import { temporaryFolder } from '../temporary-folder.js'
import { readEventFile } from './event-file.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)

const start = (from: number): TrainEvent => ({ type: 'start', steps: 6, from, trainable: 3 })
const step = (number: number): TrainEvent => ({
  type: 'step',
  step: number,
  steps: 6,
  epoch: 0,
  loss: 1 / number,
  lr: 1e-3 * number,
  gradientNorm: 2,
  imagesPerSecond: 10,
  skipped: 0,
})
const checkpoint = (number: number): TrainEvent => ({ type: 'checkpoint', step: number, folder: 'out' })
const end = (number: number): TrainEvent => ({ type: 'end', step: number, reason: 'done', seconds: 1, peakBytes: 5 })

async function written(out: string, events: readonly TrainEvent[], close = true): Promise<RunLog> {
  let clock = 1000
  const log = new RunLog(out, () => (clock += 500))
  for (const event of events) await log.write(event)
  if (close) await log.close()
  return log
}

const curve = async (out: string) =>
  (await readRunLog(out)).events.flatMap((event) => (event.type === 'step' ? [[event.step, event.loss, event.lr]] : []))
const scalars = (out: string) => readEventFile(readFileSync(join(out, TENSORBOARD_FILE))).map(({ step, scalars }) => [step, scalars])

test('events are lines with their time, and scalars for TensorBoard', async () => {
  await written(at('whole'), [start(0), step(1), step(2), checkpoint(2), end(2)])
  const lines = readFileSync(at('whole', LOG_FILE), 'utf8').trimEnd().split('\n')
  expect(lines).toHaveLength(5)
  expect(JSON.parse(lines[1])).toEqual({ ...step(1), time: 2.5 })
  const [version, first, second] = readEventFile(readFileSync(at('whole', TENSORBOARD_FILE)))
  expect(version.version).toBe('brain.Event:2')
  expect([first.time, first.step, second.step]).toEqual([2.5, 1, 2])
  expect(first.scalars['train/loss']).toBe(1)
  expect(second.scalars).toEqual({
    'train/loss': 0.5,
    'train/learning_rate': Math.fround(2e-3),
    'train/gradient_norm': 2,
    'train/images_per_second': 10,
  })
})

test('a run killed after its checkpoint, in the middle of a line, and resumed has the curves of one that was not', async () => {
  const all = [1, 2, 3, 4, 5, 6].map(step)
  await written(at('never'), [start(0), ...all, end(6)])
  await written(at('killed'), [start(0), ...all.slice(0, 3), checkpoint(3), ...all.slice(3, 5)])
  appendFileSync(at('killed', LOG_FILE), '{"type":"step","st')
  appendFileSync(at('killed', TENSORBOARD_FILE), 'torn')
  await written(at('killed'), [start(3), ...all.slice(3), end(6)])
  expect(await curve(at('killed'))).toEqual(await curve(at('never')))
  expect(scalars(at('killed'))).toEqual(scalars(at('never')))
  expect((await readRunLog(at('killed'))).broken).toBe(0)
})

test('a run that begins anew keeps nothing; one that was evaluated is evaluated again', async () => {
  await written(at('anew'), [start(0), step(1), step(2)])
  await written(at('anew'), [start(0), step(1)])
  expect(await curve(at('anew'))).toEqual([[1, 1, 1e-3]])
  const log = await written(at('anew'), [start(1), end(1)], false)
  await log.write({ type: 'evaluated', step: 1, alpha: 0.5, scores: { test: 0.75 } })
  await log.close()
  await written(at('anew'), [start(1), end(1)])
  const { events } = await readRunLog(at('anew'))
  expect(events.map(({ type }) => type)).toEqual(['start', 'step', 'start', 'end', 'start', 'end'])
  expect(scalars(at('anew'))).toHaveLength(2)
})

test('scores of sets are scalars too', async () => {
  const log = await written(at('scored'), [start(0)], false)
  await log.write({ type: 'evaluated', step: 4, alpha: 0.5, scores: { test: 0.75 } })
  await log.close()
  expect(scalars(at('scored')).at(-1)).toEqual([4, { 'score/test': 0.75 }])
})

test('an image left out is told once, also after a resume', async () => {
  const error = new CambiumError('E_IMAGE', 'a.png: expected an image, got nothing', { details: { image: 'a.png' } })
  const log = await written(at('skips'), [start(0)], false)
  log.skip(error)
  log.skip(error)
  await log.write(step(1))
  await log.close()
  const again = await written(at('skips'), [start(1)], false)
  again.skip(error)
  await again.write(step(2))
  await again.close()
  const skipped = (await readRunLog(at('skips'))).events.filter(({ type }) => type === 'skipped')
  expect(skipped).toMatchObject([{ image: 'a.png', reason: 'expected an image, got nothing' }])
})

test('lines that are no events are counted; a log that is not there is said', async () => {
  await written(at('noise'), [start(0), step(1)])
  appendFileSync(at('noise', LOG_FILE), 'noise\n{"type":"other","time":1}\n{"type":"step","time":1}\n[]\n\n')
  expect(await readRunLog(at('noise'))).toMatchObject({ events: { length: 2 }, broken: 4 })
  await expect(readRunLog(at('nowhere'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
})

test('a folder that cannot be is a typed error', async () => {
  writeFileSync(at('file'), '')
  await expect(written(at('file'), [start(0)])).rejects.toMatchObject({ code: expect.stringMatching(/^E_/) })
})
