import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeReport } from '../../lib/report/write-report.js'
import { type FineTuneEvent, type FineTuneOptions, fineTune } from '../../lib/train/fine-tune.js'
import { PREDICTION_FILE, readPredictions } from '../../lib/train/prediction-file.js'
import { readRunLog, TENSORBOARD_FILE } from '../../lib/train/run-log.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { readEventFile } from '../train/event-file.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let settings: Omit<FineTuneOptions, 'out'>

beforeAll(async () => {
  tinyClip(at('clip'))
  await tinyImages(at('train'), ['red', 'green', 'blue'], 6)
  await tinyImages(at('test'), ['red', 'green', 'blue'], 3)
  await tinyImages(at('other'), ['blue', 'red'], 2)
  writeFileSync(at('train', 'red', 'torn.png'), 'torn')
  writeFileSync(at('test', 'red', 'torn.png'), 'torn')
  const rows = ['red', 'blue'].map((name) => JSON.stringify({ image: `${name}/0.png`, captions: [`${name} one`, `a ${name} thing`] }))
  writeFileSync(at('test', 'captions.jsonl'), `${rows.join('\n')}\n`)
  settings = {
    model: at('clip'),
    data: at('train'),
    method: 'r-adapter',
    dtype: 'f32',
    epochs: 2,
    batch: 6,
    lr: 5e-3,
    seed: 1,
    alpha: 0.5,
    validationShare: 0,
    skipBroken: true,
    tests: [{ name: 'test', path: at('test') }],
    ood: [{ name: 'other', path: at('other') }],
    captions: [{ name: 'said', path: at('test', 'captions.jsonl') }],
  }
})

/** What does not depend on the clock. */
async function dataOf(out: string) {
  const { events } = await readRunLog(out)
  const steps = events.flatMap((event) =>
    event.type === 'step' ? [[event.step, event.epoch, event.loss, event.lr, event.gradientNorm]] : [],
  )
  const others = events.filter(({ type }) => type === 'skipped' || type === 'evaluated').map(({ time, ...event }) => event)
  const scalars = readEventFile(readFileSync(join(out, TENSORBOARD_FILE))).map(({ step, scalars }) => {
    const { 'train/images_per_second': _, ...rest } = scalars
    return [step, rest]
  })
  return { steps, others, scalars }
}

test('a run leaves its log, what it said of each image, and every set at each α', async () => {
  const report = await fineTune({ ...settings, out: at('whole') })
  await writeReport(at('whole'))
  expect(report.sets).toEqual({
    test: { role: 'test', images: 10, classes: 3 },
    other: { role: 'ood', images: 4, classes: 2 },
    said: { role: 'captions', images: 2, classes: 0 },
  })
  expect(report.curve.map(({ alpha }) => alpha)).toEqual([0, 0.25, 0.5, 0.75, 1])
  const zero = report.results[0].evaluation
  expect(report.curve[0].scores.test).toBe(zero.test.task === 'classification' && zero.test.top1)
  const { steps, others, scalars } = await dataOf(at('whole'))
  expect(steps.map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6])
  expect(others.map((event) => [event.type, 'image' in event ? event.image : event.alpha])).toEqual([
    ['skipped', at('train', 'red', 'torn.png')],
    ['skipped', at('test', 'red', 'torn.png')],
    ['evaluated', 0],
    ['evaluated', 0.5],
  ])
  expect(scalars).toHaveLength(1 + 6 + 2)
  const sets = await readPredictions(at('whole'))
  expect(sets.map(({ set, alphas, images }) => [set, alphas, images.length])).toEqual([
    ['test', [0, 0.5, 1], 9],
    ['other', [0, 0.5, 1], 4],
    ['said', [0, 0.5, 1], 2],
  ])
  const right = sets[0].images.filter(({ label, values }) => values[1] === label).length
  const chosen = report.results[1].evaluation.test
  expect(right / 9).toBe(chosen.task === 'classification' && chosen.top1)
  const page = readFileSync(at('whole', 'report.html'), 'utf8')
  for (const words of ['image to text, R@1', 'torn.png', 'Images left out', '1 broken image left out']) expect(page).toContain(words)
})

test('one that was stopped and resumed has the same', async () => {
  const abort = new AbortController()
  const onEvent = (event: FineTuneEvent) => event.type === 'step' && event.step === 4 && abort.abort()
  await fineTune({ ...settings, out: at('parts'), signal: abort.signal, onEvent, checkpointEvery: 2 })
  const resumed = await fineTune({ ...settings, out: at('parts'), resume: true, checkpointEvery: 2 })
  expect(await dataOf(at('parts'))).toEqual(await dataOf(at('whole')))
  expect(readFileSync(at('parts', PREDICTION_FILE), 'utf8')).toBe(readFileSync(at('whole', PREDICTION_FILE), 'utf8'))
  expect(resumed.curve).toEqual(JSON.parse(readFileSync(at('whole', 'report.json'), 'utf8')).curve)
  await writeReport(at('parts'))
  const charts = (out: string) => readFileSync(at(out, 'report.html'), 'utf8').match(/<svg[\s\S]*?<\/svg>/g)
  expect(charts('parts')).toEqual(charts('whole'))
  expect(readFileSync(at('parts', 'report.html'), 'utf8')).toContain('in 2 parts')
})

test('without a curve there are the three α of the comparison', async () => {
  const report = await fineTune({ ...settings, out: at('short'), epochs: 1, curve: [] })
  expect(report.curve.map(({ alpha }) => alpha)).toEqual([0, 0.5, 1])
})
