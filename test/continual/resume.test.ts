// A run over tasks that is stopped anywhere, or killed at any moment, ends with the same bytes as one that was not.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LearnEvent } from '../../lib/continual/learn.js'
import type { LearnReport } from '../../lib/continual/learn-report.js'
import type { RunLearnOptions } from '../../lib/continual/run-learn.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { type Kill, killedProcess } from '../safety/killed-process.js'
import { temporaryFolder } from '../temporary-folder.js'
import { runStream, writeStream } from './stream.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const KILLS = Number(process.env.CAMBIUM_KILLS ?? 10)
let tasks: StreamSpec

beforeAll(async () => {
  const { tasks: all, ...rest } = await writeStream(folder)
  tasks = { ...rest, tasks: all.slice(0, 2) }
})

/** Bytes of every file; of JSON all but what the clock and the allocator say. */
function contents(out: string): Record<string, unknown> {
  const clockless = (key: string, value: unknown) => (key === 'seconds' || key === 'peakBytes' ? 0 : value)
  const read = (file: string) => {
    const bytes = readFileSync(at(out, file))
    return file.endsWith('.json') ? JSON.parse(bytes.toString(), clockless) : bytes.toString('base64')
  }
  return Object.fromEntries(readdirSync(at(out)).map((file) => [file, read(file)]))
}

test('of a set that comes another day, what the pretrained model is worth on it is known', async () => {
  const { tasks: all, ...rest } = tasks
  const run = (out: string, count: number) =>
    runStream({
      model: at('clip'),
      out: at(out),
      tasks: { ...rest, tasks: all.slice(0, count) },
      method: 'sequential',
      settings: { lr: 0.05 },
    })
  await run('days', 1)
  const { report } = await run('days', 2)
  const { report: atOnce } = await run('at-once', 2)
  const { union: _, ...cold } = atOnce.stages[0].sets.cold
  expect(report.stages[0].sets.cold).toEqual(cold)
  expect(atOnce.stages[1].sets.cold.own).not.toBe(cold.own) // what one task learned has changed it
  expect(report.stages[1].sets.cold).toBeUndefined()
}, 300_000)

describe('stopped by its signal', () => {
  const settings = { epochs: 2, batch: 4, lr: 1e-3, keepBest: true }
  const run = (out: string, stop?: (event: LearnEvent) => boolean) =>
    runStream({ model: at('clip'), out: at(out), tasks, method: 'sequential', settings, checkpointEvery: 3 }, stop)
  const moments: [string, (event: LearnEvent) => boolean][] = [
    ['before anything is learned', ({ type }) => type === 'start'],
    ['when a task begins', (event) => event.type === 'task' && event.task === 1],
    ['between two checkpoints', (event) => event.type === 'step' && event.task === 0 && event.step === 4],
    ['at the last step of a task', (event) => event.type === 'step' && event.task === 1 && event.step === 4],
    ['after a task was looked at', (event) => event.type === 'evaluated' && event.stage.after === 0],
    ['after an epoch was scored', (event) => event.type === 'scored' && event.task === 1 && event.epoch === 0],
  ]
  let whole: LearnReport

  beforeAll(async () => {
    whole = (await run('whole')).report
  })

  test.each(moments)('%s', async (name, stop) => {
    const out = name.replaceAll(' ', '-')
    const { events } = await run(out, stop)
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'aborted' })
    const { report, events: rest } = await run(out)
    expect(rest.at(-1)).toMatchObject({ type: 'end', reason: 'done' })
    expect(report.stages).toEqual(whole.stages)
    expect(contents(out)).toEqual(contents('whole'))
  })
})

const runIn = (learn: RunLearnOptions, kill?: Kill) => killedProcess({ learn }, kill)

test('killed again and again, a run ends with the same bytes', async () => {
  const options = (out: string): RunLearnOptions => ({
    model: at('clip'),
    out: at(out),
    stream: tasks,
    methods: [{ label: 'sequential', method: 'sequential', settings: { epochs: 2, batch: 4, lr: 1e-3 } }],
    checkpointEvery: 2,
    dtype: 'f32',
  })
  const { done, err, milliseconds } = await runIn(options('unkilled'))
  expect({ done, err }).toEqual({ done: true, err: '' })
  const first = await runIn(options('killed'), { file: at('killed', 'task-1', 'run.json') })
  expect(first).toMatchObject({ done: false, err: '' })
  for (let k = 0; k < KILLS; k++) {
    // moments spread over the life of a run; each attempt goes on from what the one before left
    const end = await runIn(options('killed'), { delay: (((k * 7) % KILLS) / KILLS) * 0.8 * milliseconds })
    expect(end.err).toBe('')
    if (end.done) break
  }
  expect(await runIn(options('killed'))).toMatchObject({ done: true, err: '' })
  expect(contents('killed')).toEqual(contents('unkilled'))
}, 600_000)
