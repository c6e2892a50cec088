import { spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Clip } from '../../lib/models/clip.js'
import { classify } from '../../lib/train/classify.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { cambium, linesOf, type Outcome, program } from './command.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const model = ['--model', at('clip'), '--dtype', 'f32']
const root = join(__dirname, '../..')
const source = ['--require', join(root, 'test/typescript.cjs'), join(root, 'lib/cli/main.ts')]

beforeAll(async () => {
  tinyClip(at('clip'))
  await tinyImages(at('photos'), ['red', 'green'], 3)
  writeFileSync(at('photos', 'green', '1b.png'), 'no image')
})

/** With lines on standard input. */
function fed(args: readonly string[], input: string): Promise<Outcome> {
  return cambium(args, (child) => child.stdin?.end(input))
}

test('results that cannot be written are an error, the last of them too', async () => {
  const given = ['embed', ...model, '--text', 'a cat', '--out']
  expect(await cambium([...given, '/dev/full'])).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^error: \/dev\/full: .*\(E_NO_SPACE\)\n$/),
  })
  const full = openSync('/dev/full', 'w')
  const { status, stderr } = spawnSync(process.execPath, [...source, 'inspect', at('clip')], {
    ...{ cwd: root, stdio: ['ignore', full, 'pipe'], encoding: 'utf8' },
  })
  closeSync(full)
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^error: standard output: .*\(E_NO_SPACE\)\n$/)])
})

describe('embed', () => {
  test('a line for each image, in order; a broken one is told in its place and counted', async () => {
    const outcome = await cambium(['embed', ...model, '--batch', '2', at('photos')])
    expect(outcome).toMatchObject({ code: 0, err: '1 of 7 inputs could not be read\n' })
    const lines = linesOf(outcome)
    const names = ['green/0.png', 'green/1.png', 'green/1b.png', 'green/2.png', 'red/0.png', 'red/1.png', 'red/2.png']
    expect(lines.map(({ image }) => image)).toEqual(names.map((name) => at('photos', name)))
    expect(lines[2]).toEqual({
      image: at('photos', 'green/1b.png'),
      error: { code: 'E_IMAGE', message: expect.stringContaining('1b.png') },
    })
    for (const { embedding } of lines.filter(({ error }) => error === undefined)) {
      expect(Math.hypot(...embedding)).toBeCloseTo(1, 5)
    }
    // Neither the batch nor what is beside an image changes its features.
    const alone = linesOf(await cambium(['embed', ...model, at('photos', 'red/2.png')]))
    expect(alone[0].embedding).toEqual(lines[6].embedding)
  })

  test('--strict stops at the first broken one', async () => {
    const { code, out, err } = await cambium(['embed', ...model, '--strict', '--batch', '2', at('photos')])
    expect(code).toBe(1)
    expect(err).toMatch(/^error: .*1b\.png.*\(E_IMAGE\)\n$/)
    expect(out.trimEnd().split('\n')).toHaveLength(2)
  })

  test('paths, texts and ids of standard input; --json is one object', async () => {
    const lines = [
      at('photos', 'red/0.png'),
      '',
      '{"id": 7, "text": "a cat"}',
      '{"id": "x", "image": "nowhere.png"}',
      '{"image": 3}',
      '{bad',
    ]
    const { code, out, err } = await fed(['embed', ...model, '--json', '--no-normalize'], `${lines.join('\n')}\n`)
    expect([code, err]).toEqual([0, '3 of 5 inputs could not be read\n'])
    const { results, ...about } = JSON.parse(out)
    expect(about).toMatchObject({ model: at('clip'), dtype: 'f32', inputs: 5, broken: 3 })
    expect(results).toMatchObject([
      { image: at('photos', 'red/0.png'), embedding: expect.any(Array) },
      { id: 7, text: 'a cat', embedding: expect.any(Array) },
      { id: 'x', image: 'nowhere.png', error: { code: 'E_IMAGE' } },
      { line: 5, error: { code: 'E_DATA', message: expect.stringMatching(/^line 5: expected a text "image"/) } },
      { line: 6, error: { code: 'E_DATA' } },
    ])
    expect(Math.hypot(...results[0].embedding)).not.toBeCloseTo(1, 2)
    expect(JSON.parse((await fed(['embed', ...model, '--json'], '')).out)).toMatchObject({ results: [], inputs: 0 })
  })

  test('texts, into a file; the summary then is the one object', async () => {
    const { code, out } = await cambium(['embed', ...model, '--text', 'a cat', 'a dog', '--out', at('texts.jsonl'), '--json'])
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ inputs: 2, broken: 0 })
    const lines = linesOf({ code, out: readFileSync(at('texts.jsonl'), 'utf8'), err: '' })
    expect(lines.map(({ text }) => text)).toEqual(['a cat', 'a dog'])
    const piped = linesOf(await fed(['embed', ...model, '--text'], 'a cat\na dog\n'))
    expect(piped).toEqual(lines)
  })

  test('a reader that stops reading stops the work; one that goes away is no error', async () => {
    mkdirSync(at('lists'), { recursive: true })
    const child = spawn(process.execPath, [...source, 'embed', ...model, '--batch', '4'], { cwd: root })
    const closed = new Promise<number | null>((resolve) => child.on('close', resolve))
    let [sent, full] = [0, false]
    // Paths without end, sent as fast as they are taken; results that nobody takes.
    const feed = () => {
      for (let i = 0; i < 500; i++) {
        sent += 1
        if (!child.stdin.write(`${at('photos', 'red/0.png')}\n`)) {
          full = true
          return
        }
      }
      setImmediate(feed)
    }
    child.stdin.on('error', () => {})
    child.stdin.on('drain', () => {
      full = false
      feed()
    })
    feed()
    let before = -1
    while (sent !== before || !full) {
      before = sent
      await new Promise((resolve) => setTimeout(resolve, 1500))
    }
    expect(sent).toBeLessThan(20_000)
    child.stdout.destroy()
    expect(await closed).toBe(0)
  }, 600_000)
})

describe('classify', () => {
  test('the labels of the library call, best first', async () => {
    const images = ['red/0.png', 'green/2.png'].map((name) => at('photos', name))
    const outcome = await cambium(['classify', ...model, '--labels', 'red, green,blue', '--templates', 'my {}', '--top', '2', ...images])
    expect(outcome).toMatchObject({ code: 0, err: '' })
    const clip = await Clip.load(at('clip'), { dtype: 'f32' })
    const expected = await classify(clip, images, ['red', 'green', 'blue'], { templates: ['my {}'] })
    clip.dispose()
    for (const [i, { image, label, top }] of linesOf(outcome).entries()) {
      expect(image).toBe(images[i])
      expect(label).toBe(expected[i].label)
      expect(top).toHaveLength(2)
      expect(top[0]).toEqual({ label, probability: expect.closeTo(Math.max(...expected[i].probabilities), 5) })
      expect(top[1].probability).toBeLessThanOrEqual(top[0].probability)
    }
  })

  test('labels and templates of a file; patterns; broken images', async () => {
    mkdirSync(at('names'))
    writeFileSync(at('names', 'classes.json'), JSON.stringify({ classes: ['red', 'green', 'blue'], templates: ['my {}'] }))
    const file = await cambium([
      'classify',
      ...model,
      '--labels',
      at('names', 'classes.json'),
      '--threads',
      '1',
      at('photos', '**', '1*.png'),
    ])
    const list = await cambium(['classify', ...model, '--labels', 'red,green,blue', '--templates', 'my {}', at('photos', '*', '1?.png')])
    expect(linesOf(file)).toMatchObject([{ label: expect.any(String) }, { error: { code: 'E_IMAGE' } }, { label: expect.any(String) }])
    expect([file.code, list.code]).toEqual([0, 1]) // of the second not one could be read
    expect(linesOf(list)).toEqual([linesOf(file)[1]])
  })

  test('an adapter at an alpha: at 0 it is the model as it was', async () => {
    const trained = [
      'train',
      ...model,
      '--data',
      at('train'),
      '--out',
      at('run'),
      '--epochs',
      '2',
      '--batch',
      '4',
      '--lr',
      '0.001',
      '--drop',
      '0',
    ]
    await tinyImages(at('train'), ['red', 'green'], 4)
    expect(await cambium([...trained, '--val-fraction', '0'])).toMatchObject({ code: 0, err: '' })
    const ask = async (...args: string[]) => linesOf(await cambium(['embed', ...model, at('photos', 'red/0.png'), ...args]))
    const adapter = ['--adapter', at('run', 'adapter')]
    const [plain, zero, full] = [await ask(), await ask(...adapter, '--alpha', '0'), await ask(...adapter, '--alpha', '1')]
    expect(zero).toEqual(plain)
    expect(full).not.toEqual(plain)
  })
})

test.each([
  [['classify', '--model', 'm', 'x.png'], /--labels: expected a value/],
  [['classify', '--model', 'm', '--labels', 'a,b,a', 'x.png'], /--labels: expected each label once, got "a" twice/],
  [['classify', '--model', 'm', '--labels', 'none.json', 'x.png'], /--labels none.json: expected a file with labels, got no such file/],
  [['classify', '--model', 'm', '--labels', 'a,,b', 'x.png'], /--labels: expected labels with commas/],
  [['classify', '--model', 'm', '--labels', 'a', '--top', '0', 'x.png'], /--top/],
  [['embed', 'x.png'], /--model: expected a value/],
  [['embed', '--model', 'm', '--alpha', '0.5', 'x.png'], /alpha: expected an adapter/],
  [['embed', '--model', 'm', '--batch', '1.5', 'x.png'], /--batch/],
] as const)('%j is a mistake of use', async (args, message) => {
  const { code, out, err } = await program(args)
  expect([code, out]).toEqual([2, ''])
  expect(err).toMatch(message)
})

test('what cannot be found is an error of the run', async () => {
  const empty = at('empty')
  mkdirSync(empty)
  const [nothing, pattern, file] = await Promise.all([
    cambium(['embed', ...model, empty]),
    cambium(['embed', ...model, at('photos', '*.gif')]),
    cambium(['embed', ...model, at('photos', 'red/0.png'), '--out', at('no', 'folder.jsonl')]),
  ])
  expect(nothing).toMatchObject({ code: 1, err: expect.stringMatching(/expected a folder with images, got none \(E_NOT_FOUND\)/) })
  expect(pattern).toMatchObject({ code: 1, err: expect.stringMatching(/expected images that match the pattern, got none \(E_NOT_FOUND\)/) })
  expect(file).toMatchObject({ code: 1, err: expect.stringMatching(/folder\.jsonl.*\(E_NOT_FOUND\)/) })
})
