import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LearnEvent } from '../../lib/continual/learn.js'
import { accuracyMatrix, learnMetrics } from '../../lib/continual/metrics.js'
import { runLearn } from '../../lib/continual/run-learn.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { holdFolder } from '../../lib/formats/hold-folder.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from '../temporary-folder.js'
import { runStream, writeStream } from './stream.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let tasks: StreamSpec

beforeAll(async () => {
  tasks = await writeStream(folder)
})

const training = { epochs: 2, batch: 4, lr: 1e-3 }
const run = (out: string, method: string, more = {}) => runStream({ model: at('clip'), out: at(out), tasks, method, ...more })

test('zero-shot: every stage measures the same, in both label spaces', async () => {
  const { report, events } = await run('zero', 'zero-shot')
  expect(report.stages.map(({ after }) => after)).toEqual([-1, 0, 1, 2])
  for (const stage of report.stages) expect({ ...stage, after: -1 }).toEqual(report.stages[0])
  expect(Object.keys(report.stages[0].sets)).toEqual(['warm', 'cold', 'grey', 'known'])
  expect(report.stages[0].unionClasses).toBe(8)
  expect(report.stages[0].sets.known.union).toBeUndefined()
  expect(report.tasks.map(({ steps, trained }) => [steps, trained])).toEqual([
    [0, 0],
    [0, 0],
    [0, 0],
  ])
  expect(events.map(({ type }) => type).filter((type) => type !== 'task')).toEqual(['start', ...Array(4).fill('evaluated'), 'end'])
  expect(JSON.parse(readFileSync(at('zero', 'learn.json'), 'utf8'))).toEqual(report)
})

test('sequential: trains each task on its own images, and changes what it knew', async () => {
  const { report, events } = await run('sequential', 'sequential', { settings: training })
  const steps = events.filter(({ type }) => type === 'step')
  expect(report.tasks.map(({ name, train, validation, steps }) => [name, train, validation, steps])).toEqual([
    ['warm', 12, 6, 6],
    ['cold', 8, 4, 4],
    ['grey', 12, 6, 6],
  ])
  expect(steps).toHaveLength(16)
  expect(report.stages).toHaveLength(4)
  expect(report.stages[3].sets).not.toEqual(report.stages[0].sets)
  expect(report.stages[3].sets.grey.own).toBeGreaterThan(report.stages[0].sets.grey.own)
  expect(existsSync(at('sequential', 'task-0'))).toBe(false)
  expect(report.validation).toBeGreaterThan(0)
})

test('a task that cannot fit is refused before its first step; what it will take is told', async () => {
  const { events } = await run('planned', 'sequential', { settings: training })
  const planned = events.flatMap((event) => (event.type === 'task' ? [event] : []))
  expect(planned).toHaveLength(3)
  for (const { bytes, seconds } of planned) {
    expect(bytes).toBeGreaterThan(853280 * 4) // the weights
    expect(seconds).toBeGreaterThan(0)
  }
  const small = run('refused', 'sequential', { settings: training, memoryBudget: 1e6 })
  await expect(small).rejects.toMatchObject({ code: 'E_MEMORY', message: expect.stringMatching(/memory budget/) })
  expect(existsSync(at('refused', 'learn-state.json'))).toBe(false)
})

test('a run leaves nothing on the device, whether it ends, stops or fails', async () => {
  const { tensors } = native.memory()
  const settings = { ...training, keepBest: true }
  await run('ends', 'sequential', { settings })
  expect(native.memory().tensors).toBe(tensors)
  const stop = (event: LearnEvent) => event.type === 'step' && event.task === 1
  await runStream({ model: at('clip'), out: at('stops'), tasks, method: 'sequential', settings }, stop)
  expect(native.memory().tensors).toBe(tensors)
  await expect(run('fails', 'sequential', { settings, memoryBudget: 1e6 })).rejects.toThrow()
  expect(native.memory().tensors).toBe(tensors)
})

test('class-incremental: one dataset in parts, the union grows; the average over what was seen', async () => {
  const spec: StreamSpec = {
    ...tasks,
    protocol: 'class-incremental',
    base: 2,
    increment: 1,
    order: 'given',
    tasks: tasks.tasks.slice(0, 1),
  }
  const { report } = await run('classes', 'sequential', { tasks: spec, settings: training })
  expect(report.sets.map(({ name, classes, images }) => [name, classes, images])).toEqual([
    ['warm-1', 2, 6],
    ['warm-2', 1, 3],
    ['known', 2, 6],
  ])
  expect(report.stages.map(({ unionClasses }) => unionClasses)).toEqual([undefined, 2, 3])
  expect(report.stages[1].sets['warm-2']).toEqual({ own: 1, images: 3 }) // one class: always right among its own
  const [, first, second] = report.stages.map(({ sets }) => [sets['warm-1'].union ?? 0, sets['warm-2'].union ?? 0])
  const { incremental, lastIncremental } = learnMetrics(accuracyMatrix(report, 'union'))
  expect(lastIncremental.value).toBeCloseTo((6 * second[0] + 3 * second[1]) / 9, 12)
  expect(incremental.value).toBeCloseTo((first[0] + (6 * second[0] + 3 * second[1]) / 9) / 2, 12)
})

test('a comparison in which one method may choose among more settings says so', async () => {
  const notes: string[] = []
  const compare = (rates: readonly number[]) =>
    runLearn({
      model: at('clip'),
      out: at('unequal', String(rates.length)),
      stream: { ...tasks, tasks: tasks.tasks.slice(0, 1) },
      methods: [
        { label: 'zero-shot', method: 'zero-shot' },
        { label: 'a', method: 'sequential', settings: { ...training, epochs: 1, lr: rates } },
        { label: 'b', method: 'sequential', settings: { ...training, epochs: 1, lr: [1e-5, 1e-4] } },
      ],
      checkpointEvery: false,
      onEvent: (event) => event.type === 'note' && notes.push(event.text),
    })
  await compare([1e-5, 1e-3])
  expect(notes).toEqual([])
  await compare([1e-5])
  expect(notes).toEqual(['methods are given different numbers of settings to choose from: a 1, b 2'])
})

test('one run and several do not share a folder', async () => {
  const one = { model: at('clip'), stream: tasks, methods: [{ label: 'zero', method: 'zero-shot' }] }
  await runLearn({ ...one, out: at('shared-one') })
  await expect(runLearn({ ...one, out: at('shared-one'), seeds: [0, 1] })).rejects.toMatchObject({
    code: 'E_RUN',
    message: expect.stringMatching(/^out: expected a folder for several runs, got .*shared-one, which has one, in the folder itself$/),
  })
  await runLearn({ ...one, out: at('shared-several'), apart: true })
  await expect(runLearn({ ...one, out: at('shared-several') })).rejects.toMatchObject({
    code: 'E_RUN',
    message: expect.stringMatching(/^out: expected a folder for one run, got .*, which has several, such as .*zero.seed-0$/),
  })
})

test('a run whose folder another process writes is refused', async () => {
  const release = await holdFolder(at('held'))
  const [mark] = readdirSync(at('held'))
  await release()
  writeFileSync(at('held', mark.replace(String(process.pid), String(process.ppid))), '')
  await expect(run('held', 'zero-shot')).rejects.toMatchObject({ code: 'E_OUT' })
})
