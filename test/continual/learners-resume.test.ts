// Every method: stopped within a task and taken up again by another process's eyes (a fresh model, a fresh learner, the files), a run
// ends with the same tensors and the same measures as one that was never stopped.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LearnEvent } from '../../lib/continual/learn.js'
import type { LearnReport } from '../../lib/continual/learn-report.js'
import { LEARNER_NAMES } from '../../lib/continual/learners/registry.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { temporaryFolder } from '../temporary-folder.js'
import { runStream, writeStream } from './stream.js'

const folder = temporaryFolder()
let tasks: StreamSpec
let more: Record<string, Record<string, unknown>>

beforeAll(async () => {
  const whole = await writeStream(folder)
  tasks = { ...whole, tasks: whole.tasks.slice(0, 2) }
  more = {
    lwf: { weight: 1 },
    zscl: { reference: { images: join(folder, 'watched'), templates: ['{}.'] }, averageEvery: 2 },
    'wise-ft': { alpha: 0.7 },
    joint: { stages: 'each' },
    prefix: { depth: 2, length: 2 },
    diki: { depth: 2, length: 2 },
  }
})

const run = (method: string, out: string, stop?: (event: LearnEvent) => boolean) => {
  const settings = { epochs: 2, batch: 4, lr: 1e-3, ...more[method] }
  return runStream({ model: join(folder, 'clip'), out: join(folder, method, out), tasks, method, settings }, stop)
}

/** The bytes of the method's tensors on disk. */
function tensorsOf(method: string, out: string): Buffer {
  const [name, ...others] = readdirSync(join(folder, method, out)).filter((file) => file.endsWith('.safetensors'))
  expect(others).toEqual([])
  return readFileSync(join(folder, method, out, name))
}

const withoutTime = ({ tasks, peakBytes, ...rest }: LearnReport) => ({ ...rest, tasks: tasks.map(({ seconds, ...task }) => task) })

const training = LEARNER_NAMES.filter((name) => name !== 'zero-shot')

test.each(training)('%s goes on to the same bits', async (method) => {
  const whole = await run(method, 'whole')
  const wanted = tensorsOf(method, 'whole')
  // in the first task before any state of the method is on disk, and in the middle of the second
  for (const [task, step] of [
    [0, 1],
    [1, 3],
  ]) {
    const out = `stopped-${task}`
    const stopped = await run(method, out, (event) => event.type === 'step' && event.task === task && event.step === step)
    expect(stopped.events.at(-1)).toMatchObject({ type: 'end', reason: 'aborted' })
    const { report, events } = await run(method, out)
    const steps = events.filter((event) => event.type === 'step')
    expect(steps[0]).toMatchObject({ task, step: step + 1 })
    expect(tensorsOf(method, out).equals(wanted)).toBe(true)
    expect(withoutTime(report)).toEqual(withoutTime(whole.report))
  }
})
