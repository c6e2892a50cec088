import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readLearnState } from '../../lib/continual/learn-state.js'
import { openLearned } from '../../lib/continual/open-learned.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { type StreamTask, streamTask } from '../../lib/continual/tasks.js'
import type { Dataset } from '../../lib/data/dataset.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { temporaryFolder } from '../temporary-folder.js'
import { runStream, writeStream } from './stream.js'

// Data made in a program, and state files that are not what was written.
const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const settings = { epochs: 1, batch: 4, lr: 0.5, depth: 1, length: 2 }
let tasks: StreamSpec
let sets: Dataset[]

beforeAll(async () => {
  tasks = await writeStream(folder)
  sets = await Promise.all(['train', 'test'].map((part) => openDataset(at('cold', part), { templates: ['a {}'] })))
  const stream = { protocol: 'domain-class-incremental', tasks: [ofSets()], watch: [] } as const
  const { report } = await runStream({ model: at('clip'), out: at('run'), tasks, stream, method: 'diki', settings })
  expect(report.stages.map(({ sets }) => Object.keys(sets))).toEqual([['made'], ['made']])
})

const ofSets = (): StreamTask => streamTask({ name: 'made', train: sets[0], test: sets[1] })

test('a task of open sets; sets of other classes are refused', async () => {
  expect(ofSets()).toMatchObject({ name: 'made', classes: { classNames: ['blue', 'green'], templates: ['a {}'] } })
  const other = await openDataset(at('warm', 'test'))
  expect(() => streamTask({ name: 'made', train: sets[0], test: other })).toThrow(
    /made: expected the test set to have the classes of train/,
  )
  expect((await readLearnState(at('none'))) ?? 'none').toBe('none')
})

/** A copy of the run with something done to it. */
function broken(name: string, change: (folder: string) => void): string {
  cpSync(at('run'), at(name), { recursive: true })
  change(at(name))
  return at(name)
}
const tensorsIn = (run: string) => join(run, readdirSync(run).find((file) => file.endsWith('.safetensors')) ?? '')
function edit(run: string, change: (state: Record<string, unknown>) => void): void {
  const path = join(run, 'learn-state.json')
  const state = JSON.parse(readFileSync(path, 'utf8'))
  change(state)
  writeFileSync(path, JSON.stringify(state))
}

test.each<[string, string, (run: string) => void]>([
  ['no JSON', 'E_CONFIG', (run) => writeFileSync(join(run, 'learn-state.json'), '{"version"')],
  ['another version', 'E_RUN', (run) => edit(run, (state) => Object.assign(state, { version: 2 }))],
  ['a file elsewhere', 'E_RUN', (run) => edit(run, (state) => Object.assign(state, { tensors: '../learner-1.safetensors' }))],
  ['a setting that there is not', 'E_OPTION', (run) => edit(run, (state) => Object.assign(state, { options: { rates: 1 } }))],
  ['another setting', 'E_RUN', (run) => edit(run, (state) => Object.assign(state, { options: { ...settings, length: 3 } }))],
  ['a method’s own state that is none', 'E_RUN', (run) => edit(run, (state) => Object.assign(state, { json: { learned: 'all' } }))],
  ['more tasks than tensors', 'E_RUN', (run) => edit(run, (state) => repeatTask(state.json as { learned: number; tasks: unknown[] }))],
  ['no tensors', 'E_NOT_FOUND', (run) => rmSync(tensorsIn(run))],
  ['tensors cut short', 'E_SAFETENSORS_INCOMPLETE', (run) => truncateSync(tensorsIn(run), readFileSync(tensorsIn(run)).length - 8)],
])('%s is refused with %s', async (name, code, change) => {
  await expect(openLearned(broken(name.replaceAll(' ', '-'), change), { dtype: 'f32' })).rejects.toMatchObject({ code })
})

function repeatTask(json: { learned: number; tasks: unknown[] }): void {
  json.learned = 2
  json.tasks.push(json.tasks[0])
}
