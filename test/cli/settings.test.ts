import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { createProgress, formatSeconds } from '../../lib/cli/progress.js'
import { evalSettings, parseBytes, readSettings, readTemplates, trainSettings } from '../../lib/cli/settings.js'
import { formatTable, resultsTable } from '../../lib/cli/table.js'
import type { Evaluation } from '../../lib/train/evaluate.js'
import { temporaryFolder } from '../temporary-folder.js'

const folder = temporaryFolder()
const file = (name: string, content: string) => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

test('sizes of memory', () => {
  expect(['8GB', '512 MB', '1.5GiB', '2e9', '100k', '7B'].map(parseBytes)).toEqual([8e9, 512e6, 1.5 * 2 ** 30, 2e9, 100e3, 7])
  for (const text of ['', 'GB', '-1GB', '0', '8 PB', '1.2.3MB'])
    expect(() => parseBytes(text)).toThrow(expect.objectContaining({ code: 'E_USAGE' }))
})

test('a file in every form of names, flags over it', async () => {
  const config = file(
    'run.yaml',
    'model: m\ndata: d\nout: o\nval-fraction: 0.2\nweightDecay: 0.1\nema: false\ntest: {a: x/a, b: x=y}\nood: [c=z, sets/d/]\ntemplates: a {}\nmemory-budget: 2GB\n',
  )
  expect(await readSettings(trainSettings, { config, out: 'other', valFraction: 0 })).toEqual({
    model: 'm',
    data: 'd',
    out: 'other',
    method: 'r-adapter',
    valFraction: 0,
    weightDecay: 0.1,
    ema: false,
    test: [
      { name: 'a', path: 'x/a' },
      { name: 'b', path: 'x=y' },
    ],
    ood: [
      { name: 'c', path: 'z' },
      { name: 'd', path: 'sets/d/' },
    ],
    templates: ['a {}'],
    memoryBudget: 2e9,
  })
  expect(await readSettings(evalSettings, { config: file('empty.yaml', ''), model: 'm', alpha: 'sweep' })).toEqual({
    model: 'm',
    alpha: 'sweep',
  })
})

test.each([
  [{ epochs: 0 }, '--epochs: expected a number above 0, got 0'],
  [{ epochs: 1.5 }, '--epochs: expected a whole number, got 1.5'],
  [{ epochs: 'many' }, '--epochs: expected a number, got "many"'],
  [{ drop: 1 }, '--drop: expected a number below 1, got 1'],
  [{ alphas: [] }, '--alphas: expected at least one value, got []'],
  [{ alphas: [0, -1] }, '--alphas: expected a number of at least 0, got -1'],
  [{ dtype: 'f16' }, '--dtype: expected f32 or bf16, got "f16"'],
  [{ templates: '' }, '--templates: expected a list or a text that is not empty, got ""'],
  [{ templates: 3 }, '--templates: expected a list or a text, got 3'],
  [{ dora: 'yes' }, '--dora: expected true or false, got "yes"'],
  [{ lr: null }, '--lr: expected a number, got null'],
])('what is wrong with %j', async (wrong, message) => {
  const given = { model: 'm', data: 'd', out: 'o', ...wrong }
  await expect(readSettings(trainSettings, given)).rejects.toMatchObject({ code: 'E_USAGE', message })
})

test('templates are texts or files of them', async () => {
  expect(await readTemplates(undefined)).toBeUndefined()
  const [json, lines] = [file('t.json', '["a {}", "b {}"]'), file('t.txt', 'c {}\n\nd {}\n')]
  expect(await readTemplates(['x {}', json, lines])).toEqual(['x {}', 'a {}', 'b {}', 'c {}', 'd {}'])
  await expect(readTemplates([file('map.json', '{"a": "b"}')])).rejects.toMatchObject({ code: 'E_USAGE' })
  await expect(readTemplates(['no place'])).rejects.toMatchObject({ code: 'E_USAGE', message: expect.stringContaining('got "no place"') })
})

test('tables', () => {
  expect(
    formatTable([
      ['', 'b'],
      ['long', '1.0'],
      ['x', '10.0'],
    ]),
  ).toBe('         b\n----  ----\nlong   1.0\nx     10.0')
  const evaluation = {
    set: { task: 'classification', top1: 0.5 },
    pairs: { task: 'retrieval', imageToText: { r1: 0.25 }, textToImage: { r1: 1 } },
  } as unknown as Evaluation
  const [head, , row, note] = resultsTable([{ name: 'zero-shot', alpha: 0.30000000000000004, evaluation }]).split('\n')
  expect(head.split(/ {2,}/)).toEqual(['%', 'alpha', 'set', 'pairs i→t', 'pairs t→i'])
  expect(row.split(/ {2,}/)).toEqual(['zero-shot', '0.3', '50.0', '25.0', '100.0'])
  expect(note).toMatch(/R@1/)
})

describe('progress', () => {
  const terminal = (isTTY: boolean) => {
    const stream = Object.assign(new PassThrough(), { isTTY, columns: 120, cursorTo: () => {}, clearLine: () => {}, moveCursor: () => {} })
    return { stream: stream as unknown as NodeJS.WriteStream, text: () => String((stream as PassThrough).read() ?? '') }
  }
  const work = (quiet: boolean, isTTY: boolean) => {
    const { stream, text } = terminal(isTTY)
    const progress = createProgress(quiet, stream)
    progress.say('3 images')
    progress.show('train', 1, 4, 'loss 0.5')
    progress.show('train', 4, 4, 'loss 0.1')
    progress.show('test', 1, 2)
    progress.stop()
    progress.stop()
    return text()
  }

  test('is drawn on a terminal', () => {
    const drawn = work(false, true)
    expect(drawn).toMatch(/^3 images\n/)
    expect(drawn).toMatch(/train .*1\/4 +loss 0\.5/)
    expect(drawn).toMatch(/test .*1\/2/)
    expect([0, 12.1, 300, 9000].map(formatSeconds)).toEqual(['0 s', '13 s', '5 min', '2.5 h'])
  })

  test('is silent when piped, with --quiet, and on a dumb terminal', () => {
    expect([work(false, false), work(true, true)]).toEqual(['', ''])
    const before = process.env.TERM
    process.env.TERM = 'dumb'
    expect(work(false, true)).toBe('')
    process.env.TERM = before
  })
})
