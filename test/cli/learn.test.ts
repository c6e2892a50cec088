import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import type { LearnReport } from '../../lib/continual/learn-report.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { writeStream } from '../continual/stream.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { cambium, interruptedAt, program } from './command.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let stream: StreamSpec

const config = (name: string, settings: Record<string, unknown>): string => {
  writeFileSync(at(name), stringify(settings))
  return at(name)
}
const common = () => ['learn', '--model', at('clip'), '--dtype', 'f32', '--threads', '2', '--batch', '4']
const runsOf = (out: string): LearnReport[] => JSON.parse(out).runs
/** What does not depend on the clock or the machine's state. */
const timeless = (report: LearnReport) => ({
  ...report,
  peakBytes: 0,
  tasks: report.tasks.map((task) => ({ ...task, seconds: 0 })),
})

beforeAll(async () => {
  stream = await writeStream(folder)
})

test('methods and seeds: the rate is chosen on validation once, every run has its folder, finished ones are kept', async () => {
  const methods = { ft: { method: 'sequential', lr: [1e-7, 1e-3] }, none: { method: 'zero-shot' } }
  const file = config('compare.yaml', { ...stream, methods })
  const args = [...common(), '--config', file, '--out', at('compare'), '--seeds', '0,1', '--epochs', '2', '--json']
  const first = await cambium(args)
  expect(first).toMatchObject({ code: 0, err: '' })
  const runs = runsOf(first.out)
  expect(runs.map(({ label, method, seed }) => [label, method, seed])).toEqual([
    ['ft', 'sequential', 0],
    ['ft', 'sequential', 1],
    ['none', 'zero-shot', 0],
    ['none', 'zero-shot', 1],
  ])
  const { settings, tried } = JSON.parse(readFileSync(at('compare', 'ft', 'choice.json'), 'utf8'))
  expect(tried).toHaveLength(2)
  const best = tried[1].validation > tried[0].validation ? tried[1] : tried[0]
  expect(settings).toEqual(best.settings)
  expect(runs[0]).toMatchObject({ settings: { lr: settings.lr, tried }, validation: best.validation })
  expect(runs[1].settings).toMatchObject({ lr: settings.lr, tried })
  expect(existsSync(at('compare', 'ft', 'tried-0')) || existsSync(at('compare', 'ft', 'tried-1'))).toBe(false)
  expect(existsSync(at('compare', 'report.html'))).toBe(true)
  expect(JSON.parse(readFileSync(at('compare', 'ft', 'seed-1', 'learn.json'), 'utf8'))).toEqual(runs[1])

  rmSync(at('compare', 'none', 'seed-1'), { recursive: true })
  const second = await cambium(args)
  expect(runsOf(second.out).slice(0, 3)).toEqual(runs.slice(0, 3)) // seconds too: not run again
  expect(timeless(runsOf(second.out)[3])).toEqual(timeless(runs[3]))
}, 600_000)

test('a table for people; one more task tomorrow, without the files of the earlier ones', async () => {
  const own = await writeStream(at('own'))
  const today = config('today.yaml', { ...own, tasks: own.tasks.slice(0, 2) })
  const tomorrow = config('tomorrow.yaml', { ...own, tasks: own.tasks.slice(2) })
  const first = await cambium([...common(), '--config', today, '--out', at('days'), '--method', 'sequential', '--epochs', '2'])
  expect(first).toMatchObject({ code: 0 })
  expect(first.out).toMatch(/Transfer +Avg +Last/)
  expect(first.out).toContain(at('days', 'report.html'))
  rmSync(at('own', 'warm'), { recursive: true }) // the data of the first task are gone
  rmSync(at('own', 'cold', 'train'), { recursive: true })
  const more = ['learn', '--continue', at('days'), '--config', tomorrow, '--json']
  const second = await cambium(more)
  expect(second).toMatchObject({ code: 0, err: '' })
  const [report] = runsOf(second.out)
  expect(report.tasks.map(({ name }) => name)).toEqual(['warm', 'cold', 'grey'])
  expect(Object.keys(report.stages[0].sets)).toEqual(['warm', 'cold', 'known', 'grey'])
  expect(Object.keys(report.stages[1].sets)).toEqual(['warm', 'cold', 'known'])
  expect(Object.keys(report.stages[3].sets)).toEqual(['cold', 'grey', 'known'])
  expect(timeless(runsOf((await cambium(more)).out)[0])).toEqual(timeless(report)) // learned already
}, 600_000)

test('Ctrl-C keeps what is done; the same command goes on to the same result', async () => {
  const file = config('long.yaml', stream)
  const args = (out: string) => [
    ...common(),
    '--config',
    file,
    '--out',
    at(out),
    '--method',
    'sequential',
    '--epochs',
    '6',
    '--json',
    '--checkpoint-every',
    '3',
  ]
  const whole = await cambium(args('whole'))
  const stopped = await interruptedAt(at('part', 'task-1', 'run.json'), args('part'))
  expect(stopped.code).toBe(130)
  expect(stopped.err).toMatch(/the same command goes on/)
  expect(existsSync(at('part', 'report.html'))).toBe(false)
  const rest = await cambium(args('part'))
  expect(timeless(runsOf(rest.out)[0])).toEqual(timeless(runsOf(whole.out)[0]))
  expect(readFileSync(at('part', 'learner-3.safetensors'))).toEqual(readFileSync(at('whole', 'learner-3.safetensors')))
}, 600_000)

describe('mistakes of use end with 2 and say what is wrong', () => {
  const wrong: [string, Record<string, unknown>, string[], RegExp][] = [
    ['no tasks', {}, [], /: tasks: expected a value, got none/],
    ['an unknown method', {}, ['--methods', 'best'], /--methods: expected some of .*zero-shot.*, got best/],
    ['an unknown setting of a task', { tasks: [{ name: 'a', train: 'a', test: 'b', classs: [] }] }, [], /tasks\.0: unknown classs/],
    ['an unknown setting of a method', { methods: { a: { method: 'sequential', rate: 1 } } }, [], /settings of sequential: .*rate/],
    ['base without classes', { base: 2 }, [], /base: expected it with class-incremental alone/],
    ['two forms of one thing', {}, ['--method', 'diki', '--methods', 'diki'], /--method: expected it without --methods/],
    ['another folder to continue into', {}, ['--continue', 'runs'], /--out: expected it without --continue/],
  ]
  test('no file with the tasks', async () => {
    const { code, err } = await program(['learn', '--model', at('clip'), '--out', at('wrong')])
    expect(err).toMatch(/--config: expected a file with the tasks, got none/)
    expect(code).toBe(2)
  })

  test.each(wrong)('%s', async (_, settings, flags, message) => {
    const file = config('wrong.yaml', _ === 'no tasks' ? {} : { ...stream, ...settings })
    const { code, err } = await program(['learn', '--model', at('clip'), '--out', at('wrong'), '--config', file, ...flags])
    expect(err).toMatch(message)
    expect(code).toBe(2)
    expect(existsSync(at('wrong'))).toBe(false)
  })
})

test('another model, other images and other settings are refused', async () => {
  const file = config('again.yaml', stream)
  const run = (...flags: string[]) => cambium([...common(), '--config', file, '--out', at('again'), '--epochs', '1', ...flags])
  expect((await run('--method', 'zero-shot')).code).toBe(0)
  const other = await run('--method', 'sequential')
  expect(other.code).toBe(1)
  expect(other.err).toMatch(/expected method as when the run began \("zero-shot"\), got "sequential"/)
  const operands = await run('--method', 'zero-shot', '--dtype', 'bf16')
  expect(operands.err).toMatch(/expected dtype as when the run began \("f32"\), got "bf16"/)
  const model = tinyClip(at('another'))
  const bytes = readFileSync(join(model, 'model.safetensors'))
  bytes[8 + Number(bytes.readBigUInt64LE())] ^= 1 // the first weight's last bit
  writeFileSync(join(model, 'model.safetensors'), bytes)
  const based = await run('--method', 'zero-shot', '--model', model)
  expect(based.err).toMatch(/E_BASE/)
  await tinyImages(at('warm', 'train'), ['red'], 7)
  const grown = await run('--method', 'zero-shot')
  expect(grown.err).toMatch(/expected task 0 to be warm with the images that were learned/)
}, 600_000)
