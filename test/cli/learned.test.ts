import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runLearn } from '../../lib/continual/run-learn.js'
import { TASKS, writeStream } from '../continual/stream.js'
import { temporaryFolder } from '../temporary-folder.js'
import { linesOf, program } from './command.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)

beforeAll(async () => {
  const stream = await writeStream(folder)
  const small = { epochs: 1, batch: 4, lr: 1e-3 }
  const methods = [
    { label: 'diki', method: 'diki', settings: { ...small, depth: 2, length: 2 } },
    { label: 'sequential', method: 'sequential', settings: small },
  ]
  await runLearn({ model: at('clip'), out: at('runs'), stream, methods, dtype: 'f32', apart: true })
  writeFileSync(at('grey', 'test', 'white', 'torn.png'), 'no image')
  writeFileSync(at('labels.json'), JSON.stringify({ classes: ['a bird', 'a fish'], templates: ['a {}.'] }))
})

const run = (method: string) => ['--learned', at('runs', method, 'seed-0')]

test('classify: classes of all tasks, what was chosen, a broken image in its place', async () => {
  const outcome = await program(['classify', ...run('diki'), '--top', '2', at('grey', 'test')])
  expect(outcome).toMatchObject({ code: 0, err: '1 of 10 inputs could not be read\n' })
  const lines = linesOf(outcome)
  const names = TASKS.flatMap(({ classes }) => classes)
  expect(lines.filter(({ error }) => error)).toEqual([
    { image: at('grey', 'test', 'white', 'torn.png'), error: { code: 'E_IMAGE', message: expect.any(String) } },
  ])
  for (const line of lines.filter(({ error }) => !error)) {
    expect(Object.keys(line)).toEqual(['image', 'label', 'task', 'weight', 'top'])
    expect(TASKS.map(({ name }) => name)).toContain(line.task)
    expect(line.top).toHaveLength(2)
    expect(line.top[0].label).toBe(line.label)
    expect(names).toContain(line.label)
  }
})

test('classify: classes of one task, or own ones; the summary tells the run', async () => {
  const outcome = await program(['classify', ...run('diki'), '--task', 'cold', '--json', at('grey', 'test', 'black')])
  const { results, ...about } = JSON.parse(outcome.out)
  expect(about).toMatchObject({
    learned: at('runs/diki/seed-0'),
    model: at('clip'),
    method: 'diki',
    tasks: ['warm', 'cold', 'grey'],
    inputs: 3,
  })
  for (const { top } of results) expect(top.map(({ label }: { label: string }) => label).sort()).toEqual(['blue', 'green'])
  const own = linesOf(await program(['classify', ...run('sequential'), '--labels', at('labels.json'), at('grey', 'test', 'black')]))
  for (const line of own) {
    expect(Object.keys(line)).toEqual(['image', 'label', 'top'])
    expect(line.top.map(({ label }: { label: string }) => label).sort()).toEqual(['a bird', 'a fish'])
  }
})

test('embed: features with what was chosen; texts where the weights are what was learned', async () => {
  const images = linesOf(await program(['embed', ...run('diki'), at('grey', 'test', 'black')]))
  for (const line of images) {
    expect(Object.keys(line)).toEqual(['image', 'task', 'weight', 'embedding'])
    expect(Math.hypot(...line.embedding)).toBeCloseTo(1, 5)
  }
  const texts = await program(['embed', ...run('diki'), '--text', 'a cat'])
  expect(texts.code).toBe(1)
  expect(linesOf(texts)[0]).toMatchObject({ text: 'a cat', error: { code: 'E_DATA', message: expect.stringMatching(/follows the image/) } })
  const [text] = linesOf(await program(['embed', ...run('sequential'), '--text', 'a cat']))
  expect(Math.hypot(...text.embedding)).toBeCloseTo(1, 5)
})

test('what is no run, and flags that do not go together', async () => {
  const photo = at('grey', 'test', 'black', '0.png')
  const missing = await program(['classify', '--learned', at('clip'), photo])
  expect(missing).toMatchObject({ code: 1, err: expect.stringMatching(/clip: expected a run of learn, got none \(E_NOT_FOUND\)/) })
  const several = await program(['classify', '--learned', at('runs'), photo])
  expect(several.err).toMatch(
    /expected one run of learn, got a folder with 2 of them: give one, such as .*runs.diki.seed-0 \(E_NOT_FOUND\)/,
  )
  const unknown = await program(['classify', ...run('diki'), '--task', 'hot', photo])
  expect(unknown).toMatchObject({ code: 2, err: expect.stringMatching(/task: expected one of warm, cold, grey, got hot/) })
  const refused: [string[], RegExp][] = [
    [['classify', ...run('diki'), '--task', 'cold', '--labels', 'a,b', photo], /--task: expected it without --labels, got both/],
    [['classify', ...run('diki'), '--templates', 'a {}.', photo], /--templates: expected them with --labels/],
    [['classify', '--model', at('clip'), '--labels', 'a,b', '--task', 'cold', photo], /--task: expected it with --learned/],
    [['classify', '--labels', 'a,b', photo], /--model: expected a value, got none/],
    [['embed', photo], /--model: expected a value, got none/],
    [['embed', ...run('diki'), '--adapter', 'x', photo], /--adapter: expected it without --learned, got both/],
    [['classify', ...run('diki'), '--image-size', '64', photo], /--image-size: expected it without --learned/],
  ]
  for (const [args, message] of refused) expect(await program(args)).toMatchObject({ code: 2, err: expect.stringMatching(message) })
})

test('inspect: the tensors that a run keeps', async () => {
  const { code, out } = await program(['inspect', '--json', at('runs/diki/seed-0')])
  const { inside } = JSON.parse(out)
  expect(code).toBe(0)
  expect(inside.map(({ path }: { path: string }) => path)).toEqual([expect.stringMatching(/seed-0.learner-\d+\.safetensors$/)])
})

test('inspect: a folder of several runs says which they are, with what they keep', async () => {
  const { code, out } = await program(['inspect', at('runs')])
  expect(code).toBe(0)
  expect(out).toMatch(/runs: a folder with\n {2}2 runs of learn:\n/)
  for (const method of ['diki', 'sequential'])
    expect(out).toMatch(new RegExp(`runs.${method}.seed-0: ${method}, seed 0, 3 tasks \\(warm, cold, grey\\)\n`))
  expect(out).toMatch(/seed-0.learner-\d+\.safetensors: tensors\n/)
})
