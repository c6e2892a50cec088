/** A small CLIP and three small domains in a folder, for the tests of the task loop. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { LearnEvent } from '../../lib/continual/learn.js'
import { type LearnOptions, learn } from '../../lib/continual/learn.js'
import type { LearnReport } from '../../lib/continual/learn-report.js'
import { createLearner } from '../../lib/continual/learners/registry.js'
import type { StreamSpec } from '../../lib/continual/task-spec.js'
import { openTasks } from '../../lib/continual/tasks.js'
import { Clip } from '../../lib/models/clip.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

export const TASKS = [
  { name: 'warm', classes: ['red', 'yellow', 'orange'] },
  { name: 'cold', classes: ['blue', 'green'] },
  { name: 'grey', classes: ['black', 'white', 'grey'] },
]

/** Writes `clip` and the sets; an image is recognised by the class's place, so that something can be learned. */
export async function writeStream(folder: string): Promise<StreamSpec> {
  tinyClip(join(folder, 'clip'))
  const path = (...parts: string[]) => join(folder, ...parts)
  for (const { name, classes } of TASKS) {
    await tinyImages(path(name, 'train'), classes, 6)
    await tinyImages(path(name, 'test'), classes, 3)
  }
  await tinyImages(path('watched'), ['cat', 'dog'], 3)
  return {
    tasks: TASKS.map(({ name }) => ({ name, train: path(name, 'train'), test: path(name, 'test'), validation: 0.34 })),
    watch: [{ name: 'known', test: path('watched') }],
    templates: ['a photo of a {}.'],
  }
}

export interface RunSpec extends Partial<LearnOptions> {
  model: string
  out: string
  tasks: StreamSpec
  method: string
  settings?: Record<string, unknown>
}

/** Runs the loop with a model of its own; `stop` is asked after each event. */
export async function runStream(
  { model, out, tasks, method, settings = {}, ...options }: RunSpec,
  stop: (event: LearnEvent) => boolean = () => false,
): Promise<{ report: LearnReport; events: LearnEvent[] }> {
  const clip = await Clip.load(model, { dtype: 'f32' })
  const { seed = 0 } = options
  const learner = await createLearner(clip, method, settings, { seed })
  const controller = new AbortController()
  const events: LearnEvent[] = []
  try {
    const stream = options.stream ?? (await openTasks(tasks, { seed }))
    for await (const event of learn(clip, { ...options, stream, learner, out, signal: controller.signal })) {
      events.push(event)
      if (stop(event)) controller.abort()
      if (event.type === 'end') return { report: event.report, events }
    }
    throw new Error('expected an end')
  } finally {
    learner.dispose()
    clip.dispose()
  }
}

export const remove = (folder: string) => rmSync(folder, { recursive: true, force: true })
