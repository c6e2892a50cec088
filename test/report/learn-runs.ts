/** Made-up runs over a stream of tasks, with numbers that follow from how much a method learns and forgets. */
import type { LearnReport, LearnStage, SetAccuracy } from '../../lib/continual/learn-report.js'

export interface LearnSketch {
  label?: string
  method?: string
  seed?: number
  tasks?: readonly string[]
  watched?: readonly string[]
  /** accuracy right after learning */
  learned?: number
  /** lost on every other set with each task learned */
  loss?: number
  /** how many tasks are done; default all */
  done?: number
  selects?: boolean
  union?: boolean
  protocol?: LearnReport['protocol']
  settings?: Readonly<Record<string, unknown>>
  images?: number
}

export const TASKS = ['digits', 'signs', 'textures']

/** Zero-shot: 0.3 on the first set, a twentieth more on each next; 0.5 on watched sets. */
export function learnRun(sketch: LearnSketch = {}): LearnReport {
  const { label = 'DIKI', method = 'diki', seed = 0, tasks = TASKS, watched = ['tin'], images = 200 } = sketch
  const { learned = 0.8, loss = 0, done = tasks.length, selects = method === 'diki', union = false } = sketch
  const sets = [...tasks.map((name, task) => ({ name, task: task as number | null })), ...watched.map((name) => ({ name, task: null }))]
  const noise = (seed % 3) / 1000
  const entry = (task: number | null, after: number): SetAccuracy => {
    const zero = task === null ? 0.5 : 0.3 + 0.05 * task
    const known = task !== null && task <= after
    const own = Math.max(0, (known ? learned - loss * (after - task) : zero - loss * (after + 1)) + noise)
    const weights = Array.from({ length: 20 }, (_, bin) => (bin === (known ? 18 : 1) ? images : 0))
    const chosen = Array.from({ length: after + 1 }, (_, t) => (t === (known ? task : after) ? images : 0))
    const selection = selects && after >= 0 ? { selection: { tasks: chosen, weights } } : {}
    return { own, images, ...(union ? { union: own - 0.1 } : {}), ...selection }
  }
  const stages: LearnStage[] = Array.from({ length: done + 1 }, (_, stage) => ({
    after: stage - 1,
    sets: Object.fromEntries(sets.map(({ name, task }) => [name, entry(task, stage - 1)])),
  }))
  return {
    version: 1,
    cambium: '0.1.0',
    model: 'clip-tiny',
    method,
    label,
    seed,
    protocol: sketch.protocol ?? 'domain-class-incremental',
    settings: sketch.settings ?? { lr: 5, epochs: 10 },
    tasks: tasks
      .slice(0, done)
      .map((name) => ({ name, classes: 10, train: 500, validation: 100, steps: 40, seconds: 12.5, trained: 12_800 })),
    sets: sets.map(({ name, task }) => ({ name, task, classes: 10, images })),
    stages,
    parameters: 12_800 * done,
    peakBytes: 300e6,
  }
}

/** DIKI, which keeps; sequential fine-tuning, which forgets; zero-shot; three seeds of each. */
export function learnRuns(): LearnReport[] {
  const methods: LearnSketch[] = [
    { label: 'zero-shot', method: 'zero-shot', learned: 0.35, selects: false },
    { label: 'sequential', method: 'sequential', learned: 0.85, loss: 0.1 },
    { label: 'DIKI', method: 'diki', learned: 0.8, loss: 0.001 },
  ]
  return methods.flatMap((sketch) => [0, 1, 2].map((seed) => learnRun({ ...sketch, seed, union: true })))
}
