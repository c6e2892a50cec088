import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { cambium, interruptedAt } from './command.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)

beforeAll(async () => {
  tinyClip(at('clip'))
  await tinyImages(at('train'), ['red', 'green', 'blue'], 6)
  await tinyImages(at('test'), ['red', 'green', 'blue'], 2)
})

const train = (...args: string[]) => [
  'train',
  '--model',
  at('clip'),
  '--data',
  at('train'),
  '--dtype',
  'f32',
  '--batch',
  '6',
  '--alphas',
  '0,1',
  ...args,
]

describe('train, eval and merge', () => {
  test('that validation chose the model as it was is said', async () => {
    const { code, out } = await cambium(train('--out', at('none'), '--epochs', '1', '--alphas', '0', '--no-report'))
    expect(code).toBe(0)
    expect(out).toContain('alpha 0 (validation)\nwarning: validation likes no alpha above 0 better')
  })

  test('one after the other', async () => {
    const templates = ['--templates', 'a {}.', '--templates', 'my {}']
    const trained = await cambium(
      train('--out', at('run'), '--epochs', '2', '--test', `photos=${at('test')}`, '--threads', '2', '--json', ...templates),
    )
    expect(trained).toMatchObject({ code: 0, err: '' })
    const report = JSON.parse(trained.out)
    expect(report).toMatchObject({
      done: true,
      steps: 4,
      threads: 2,
      files: { adapter: at('run', 'adapter'), merged: at('run', 'merged') },
    })
    expect(Object.keys(report.results[0].evaluation)).toEqual(['validation', 'photos'])

    const evaluated = await cambium([
      'eval',
      '--model',
      at('run', 'merged'),
      '--dtype',
      'f32',
      '--data',
      `photos=${at('test')}`,
      '--json',
      ...templates,
    ])
    const chosen = report.results.find(({ alpha }: { alpha: number }) => alpha === report.alpha.value)
    expect(JSON.parse(evaluated.out).results[0].evaluation.photos).toEqual(chosen.evaluation.photos)

    const merged = await cambium(['merge', '--model', at('clip'), '--adapter', at('run', 'adapter'), '--alpha', '0', '--out', at('zero')])
    expect(merged).toMatchObject({ code: 0, out: `merged with alpha 0: ${at('zero')}\n`, err: '' })
    expect(readFileSync(at('zero', 'model.safetensors')).equals(readFileSync(at('clip', 'model.safetensors')))).toBe(true)
  })

  test('for people, a table; quiet when piped', async () => {
    const { code, out, err } = await cambium([
      'eval',
      '--model',
      at('clip'),
      '--adapter',
      at('run', 'adapter'),
      '--alpha',
      'sweep',
      '--alphas',
      '0,1',
      '--data',
      `photos=${at('test')}`,
    ])
    expect([code, err]).toEqual([0, ''])
    const [head, , ...lines] = out.trimEnd().split('\n')
    expect(head).toMatch(/^% +alpha +photos$/)
    expect(lines[0]).toMatch(/^zero-shot +0 +\d+\.\d$/)
    expect(lines[1]).toMatch(/ 1 +\d+\.\d$/)
  })

  test('captions are retrieved', async () => {
    const rows = ['red', 'green', 'blue'].map((name) => JSON.stringify({ image: `${name}/0.png`, captions: [`a ${name} thing`, name] }))
    writeFileSync(at('test', 'captions.jsonl'), `${rows.join('\n')}\n`)
    const { out } = await cambium(['eval', '--model', at('clip'), '--captions', `said=${at('test', 'captions.jsonl')}`, '--json'])
    expect(JSON.parse(out).results[0].evaluation.said).toMatchObject({
      task: 'retrieval',
      images: 3,
      captions: 6,
      imageToText: { count: 3, r5: expect.any(Number) },
    })
  })
})

describe('Ctrl-C', () => {
  test('saves, says how to go on with exit code 130, and --resume goes on', async () => {
    const args = train('--out', at('stopped'), '--epochs', '400', '--val-fraction', '0')
    const state = at('stopped', 'run.json')
    const stopped = await interruptedAt(state, args)
    expect(stopped.code).toBe(130)
    expect(stopped.err).toMatch(/^stopped after step \d+; go on with: cambium train .*--resume$/m)
    const { step } = JSON.parse(readFileSync(state, 'utf8'))
    expect(step).toBeLessThan(1200)
    const again = await cambium(args)
    expect(again).toMatchObject({ code: 1, err: expect.stringMatching(new RegExp(`at step ${step} of 1200.*\\(E_OUT\\)`)) })
    const resumed = await interruptedAt(state, [...args, '--resume', '--json'])
    expect(resumed.code).toBe(130)
    expect(JSON.parse(resumed.out).steps).toBeGreaterThan(step)
  })
})

describe('errors are one line with a code, exit code 1', () => {
  test.each([
    ['no model', () => ['eval', '--model', at('nowhere'), '--data', `x=${at('test')}`], /^error: .*nowhere.*\(E_NOT_FOUND\)\n$/],
    ['no data', () => ['eval', '--model', at('clip'), '--data', `x=${at('nothing')}`], /^error: .*nothing.*\(E_NOT_FOUND\)\n$/],
    [
      'no adapter',
      () => ['merge', '--model', at('clip'), '--adapter', at('train'), '--out', at('out')],
      /^error: .*adapter_config\.json.*\(E_NOT_FOUND\)\n$/,
    ],
    [
      'too little memory',
      () => train('--out', at('big'), '--memory-budget', '2MB'),
      /^error: memory: expected at most 2\.0 MB .*\(E_MEMORY\)\n$/,
    ],
  ])('%s', async (_, args, message) => {
    const { code, out, err } = await cambium(args())
    expect([code, out]).toEqual([1, ''])
    expect(err).toMatch(message)
  })

  test('a broken image is named, or skipped and counted', async () => {
    await tinyImages(at('broken'), ['red', 'green'], 2)
    writeFileSync(at('broken', 'red', 'torn.png'), readFileSync(at('broken', 'red', '0.png')).subarray(0, 60))
    const args = ['eval', '--model', at('clip'), '--data', `x=${at('broken')}`]
    expect(await cambium(args)).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/^error: .*torn\.png.*\(E_IMAGE\)\n$/) })
    const skipped = await cambium([...args, '--skip-broken'])
    expect(skipped.code).toBe(0)
    expect(skipped.out).toMatch(/x: 1 broken images? left out/)
  })

  test('a wrong checkpoint says what is wrong with it', async () => {
    tinyClip(at('torn'))
    writeFileSync(at('torn', 'model.safetensors'), readFileSync(at('clip', 'model.safetensors')).subarray(0, 5000))
    mkdirSync(at('empty'), { recursive: true })
    const [torn, empty] = await Promise.all(
      ['torn', 'empty'].map((model) => cambium(['eval', '--model', at(model), '--data', `x=${at('test')}`])),
    )
    expect(torn).toMatchObject({ code: 1, err: expect.stringMatching(/\(E_SAFETENSORS\w*\)/) })
    expect(empty).toMatchObject({ code: 1, err: expect.stringMatching(/expected model\.safetensors.*\(E_NOT_FOUND\)/) })
  })
})
