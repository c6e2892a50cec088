import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openDataset, readClassFile } from '../../lib/data/open-dataset.js'
import { Clip } from '../../lib/models/clip.js'
import { evaluate } from '../../lib/train/evaluate.js'
import { evaluateModel } from '../../lib/train/evaluate-model.js'
import { type FineTuneEvent, type FineTuneOptions, fineTune } from '../../lib/train/fine-tune.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const sets = { tests: [{ name: 'test', path: at('test') }], ood: [{ name: 'other', path: at('other') }] }
let settings: FineTuneOptions

beforeAll(async () => {
  tinyClip(at('clip'))
  const classes = ['red', 'green', 'blue']
  await tinyImages(at('train'), classes, 8)
  await tinyImages(at('test'), classes, 3)
  await tinyImages(at('other'), ['blue', 'red'], 2)
  settings = {
    model: at('clip'),
    data: at('train'),
    out: '',
    method: 'r-adapter',
    dtype: 'f32',
    epochs: 2,
    batch: 6,
    seed: 1,
    alphas: [0, 0.5, 1],
    ...sets,
  }
})

const topOf = (results: readonly { evaluation: object }[]) => results.map(({ evaluation }) => evaluation)

test('R-Adapter: trains, chooses alpha on validation alone, saves, compares', async () => {
  const events: FineTuneEvent[] = []
  const out = at('r-adapter')
  const report = await fineTune({ ...settings, out, lr: 5e-3, validationShare: 0.25, onEvent: (event) => events.push(event) })
  expect(report).toMatchObject({ done: true, steps: 6, images: { train: 18, validation: 6 }, alpha: { by: 'validation' } })
  expect(report.alpha?.tried?.map(({ alpha }) => alpha)).toEqual([0, 0.5, 1])
  expect(events[0]).toMatchObject({ type: 'plan', images: 18, validation: 6 })
  expect(events.filter(({ type }) => type === 'step')).toHaveLength(6)
  expect(events.flatMap((event) => (event.type === 'saved' ? [event.what] : []))).toEqual(['adapter', 'merged', 'report'])
  expect(JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'))).toEqual(JSON.parse(JSON.stringify(report)))

  const chosen = report.alpha?.value as number
  const before = report.results.find(({ alpha }) => alpha === 0)
  const after = report.results.find(({ alpha }) => alpha === chosen)
  expect(before?.name).toBe('zero-shot')
  expect(Object.keys(before?.evaluation ?? {})).toEqual(['validation', 'test', 'other'])
  const clip = await Clip.load(at('clip'), { dtype: 'f32' })
  const test = { name: 'test', data: await openDataset(at('test')) }
  expect((await evaluate(clip, [test])).test).toEqual(before?.evaluation.test)
  clip.dispose()
  const merged = await evaluateModel({ model: join(out, 'merged'), dtype: 'f32', sets: [...sets.tests, ...sets.ood] })
  expect(merged.results[0].evaluation).toMatchObject({ test: after?.evaluation.test, other: after?.evaluation.other })
  const adapted = await evaluateModel({ model: at('clip'), adapter: join(out, 'adapter'), dtype: 'f32', sets: sets.tests })
  expect(adapted.results).toMatchObject([{ alpha: chosen, evaluation: { test: after?.evaluation.test } }])
  await expect(fineTune({ ...settings, out })).rejects.toMatchObject({ code: 'E_OUT' })
})

test.each(['full', 'flyp'] as const)(
  '%s: the fine-tuned model and its mean with the pretrained one are ordinary folders',
  async (method) => {
    const out = at(method)
    const report = await fineTune({ ...settings, method, out, lr: 1e-4, alpha: 0.5, validationShare: 0 })
    expect(report.alpha).toEqual({ value: 0.5, by: 'option' })
    expect(report.results.map(({ name, alpha }) => [name, alpha])).toEqual([
      ['zero-shot', 0],
      [method === 'full' ? 'full fine-tuning + WiSE-FT' : 'FLYP + WiSE-FT', 0.5],
      [method === 'full' ? 'full fine-tuning' : 'FLYP', 1],
    ])
    for (const [what, alpha] of [
      ['merged', 0.5],
      ['fine-tuned', 1],
    ] as const) {
      const saved = await evaluateModel({ model: join(out, what), dtype: 'f32', sets: [...sets.tests, ...sets.ood] })
      expect(topOf(saved.results)).toEqual(topOf(report.results.filter((result) => result.alpha === alpha)))
    }
    const scale = async (model: string) => {
      const clip = await Clip.load(model)
      const [value] = await clip.logitScale.floats()
      clip.dispose()
      return value
    }
    expect((await scale(join(out, 'fine-tuned'))) === (await scale(at('clip')))).toBe(method === 'full')
  },
)

test('a run that is stopped says so, leaves a checkpoint, and goes on to the same result', async () => {
  const abort = new AbortController()
  const onEvent = (event: FineTuneEvent) => event.type === 'step' && event.step === 2 && abort.abort()
  const stopped = await fineTune({ ...settings, out: at('stopped'), signal: abort.signal, onEvent })
  expect(stopped).toMatchObject({ done: false, steps: 2, results: [], files: {} })
  expect(existsSync(at('stopped', 'merged'))).toBe(false)
  const [resumed, whole] = [
    await fineTune({ ...settings, out: at('stopped'), resume: true }),
    await fineTune({ ...settings, out: at('whole') }),
  ]
  expect(resumed.results).toEqual(whole.results)
  expect(readFileSync(at('stopped', 'merged', 'model.safetensors')).equals(readFileSync(at('whole', 'merged', 'model.safetensors')))).toBe(
    true,
  )
})

test('captions train too: the objective has no ε, alpha is chosen by retrieval', async () => {
  const rows = ['red', 'green', 'blue'].flatMap((name) =>
    [0, 1, 2, 3].map((i) => JSON.stringify({ image: `${name}/${i}.png`, captions: [`${name} ${i}`, `a ${name} picture`] })),
  )
  writeFileSync(at('train', 'captions.jsonl'), `${rows.join('\n')}\n`)
  const said = { name: 'said', path: at('train', 'captions.jsonl') }
  const run = { ...settings, data: said.path, batch: 4, validationShare: 0.25, tests: [], captions: [said] }
  const report = await fineTune({ ...run, out: at('captions') })
  expect(report).toMatchObject({ done: true, images: { train: 9, validation: 3 }, alpha: { by: 'validation' } })
  expect(report.results[0].evaluation).toMatchObject({
    validation: { task: 'retrieval', images: 3 },
    said: { task: 'retrieval', captions: 24 },
    other: { task: 'classification' },
  })
  const whole = await fineTune({ ...run, out: at('captions-whole'), validationShare: 0, captions: [], ood: [] })
  expect(whole).toMatchObject({ alpha: { value: 0.8, by: 'default' }, results: [] })
})

test('few shots train, the rest of a class validates nothing', async () => {
  const report = await fineTune({ ...settings, out: at('shots'), shots: 2, rank: 2, batch: 3, validationShare: 0.25 })
  expect(report.images).toEqual({ train: 6, validation: 6 })
})

test('without a batch a small set is one, cut where it is accumulated', async () => {
  const small = { ...settings, batch: undefined, epochs: 1, validationShare: 0, tests: [], ood: [] }
  expect(await fineTune({ ...small, out: at('small') })).toMatchObject({ done: true, steps: 1 })
  expect(await fineTune({ ...small, out: at('small-parts'), accumulate: 5 })).toMatchObject({ done: true, steps: 1 })
  expect(JSON.parse(readFileSync(at('small-parts', 'run.json'), 'utf8'))).toMatchObject({ settings: { batch: 20 } })
})

test('classes and prompts are left for whoever classifies; captions have none', async () => {
  const templates = ['a {} thing.', 'the {}.']
  const { files } = await fineTune({ ...settings, tests: [], ood: [], templates, epochs: 1, alpha: 1, out: at('labels') })
  expect(files.labels).toBe(at('labels', 'labels.json'))
  expect(await readClassFile(files.labels)).toEqual({ classNames: ['blue', 'green', 'red'], templates })
  writeFileSync(at('said.csv'), `image,caption\n${at('test', 'red', '0.png')},a red one\n${at('test', 'red', '1.png')},one more\n`)
  const said = await fineTune({
    ...settings,
    tests: [],
    ood: [],
    data: at('said.csv'),
    validationShare: 0,
    batch: 2,
    epochs: 1,
    out: at('said'),
  })
  expect([said.files.labels, existsSync(at('said', 'labels.json'))]).toEqual([undefined, false])
})

test('sets of the task that lack a class are judged among all that train, others among their own', async () => {
  await tinyImages(at('two'), ['red', 'blue'], 3)
  const path = at('two')
  const named = { tests: [{ name: 'test', path }], ood: [{ name: 'other', path }] }
  const { results, sets: of } = await fineTune({ ...settings, ...named, validation: path, epochs: 1, out: at('lacking') })
  const classesOf = (name: string) => {
    const found = results[0].evaluation[name]
    return found.task === 'classification' ? found.perClass.map((one) => [one.name, one.count]) : []
  }
  const all = [
    ['blue', 3],
    ['green', 0],
    ['red', 3],
  ]
  expect([classesOf('validation'), classesOf('test')]).toEqual([all, all])
  expect(classesOf('other')).toEqual([all[0], all[2]])
  expect(of.test).toMatchObject({ images: 6, classes: 3 })
})

test('broken images are left out and counted', async () => {
  await tinyImages(at('broken'), ['red', 'green'], 3)
  writeFileSync(at('broken', 'red', 'torn.png'), 'torn')
  const broken = { ...settings, data: at('broken'), batch: 2, epochs: 1, validationShare: 0, tests: [], ood: [] }
  await expect(fineTune({ ...broken, out: at('torn') })).rejects.toMatchObject({ code: 'E_IMAGE' })
  expect((await fineTune({ ...broken, out: at('skipped'), skipBroken: true })).skipped).toBeGreaterThan(0)
})

test('what cannot fit is refused before anything is written', async () => {
  await expect(fineTune({ ...settings, out: at('big'), memoryBudget: 1e6 })).rejects.toMatchObject({
    code: 'E_MEMORY',
    message: expect.stringContaining('memory budget'),
  })
  expect(existsSync(at('big'))).toBe(false)
})

test('a batch larger than the set is told as such, not by the memory that it would take', async () => {
  const huge = { ...settings, out: at('huge'), batch: 1e6, validationShare: 0, memoryBudget: 1e6 }
  await expect(fineTune(huge)).rejects.toMatchObject({
    code: 'E_OPTION',
    message: expect.stringMatching(/^batch: expected at most the \d+ images of the training set, got 1000000$/),
  })
  expect(existsSync(at('huge'))).toBe(false)
})

test('sets need names of their own', async () => {
  const tests = [...sets.tests, { name: 'test', path: at('other') }]
  await expect(fineTune({ ...settings, out: at('names'), tests })).rejects.toMatchObject({ code: 'E_OPTION' })
})

test('without an adapter there is no alpha, and without sets nothing to evaluate', async () => {
  await expect(evaluateModel({ model: at('clip'), alpha: 0.5, sets: sets.tests })).rejects.toMatchObject({ code: 'E_OPTION' })
  await expect(evaluateModel({ model: at('clip') })).rejects.toMatchObject({ code: 'E_OPTION' })
})

test('a sweep shows every alpha; only a validation set chooses', async () => {
  const options = {
    model: at('clip'),
    adapter: at('r-adapter', 'adapter'),
    dtype: 'f32' as const,
    sets: sets.tests,
    alpha: 'sweep' as const,
    alphas: [0, 1],
  }
  const sweep = await evaluateModel(options)
  expect(sweep.results.map(({ alpha }) => alpha)).toEqual([0, 1])
  expect(sweep.chosen).toBeUndefined()
  const chosen = await evaluateModel({ ...options, alpha: undefined, validation: at('train') })
  expect(chosen.chosen?.tried).toHaveLength(2)
  expect(chosen.results.map(({ alpha }) => alpha)).toEqual([chosen.chosen?.alpha])
})
