// What the model is worth at one stage of a stream: every test set and every watched set, in its own label space and in the union.
import type { Dataset } from '../data/dataset.js'
import { type EncodeOptions, type EncodeProgress, FeatureCache } from '../train/features.js'
import { argmax } from '../train/metrics.js'
import type { LearnStage, SetAccuracy } from './learn-report.js'
import type { ClassPrompts, Learner, Scored, ScoreOptions } from './learner.js'
import { promptsOf } from './learner-options.js'
import type { StreamTask, TaskStream } from './tasks.js'

export interface StageOptions extends Omit<EncodeOptions, 'onProgress' | 'cache'> {
  onProgress?: (progress: EncodeProgress & { readonly set: string }) => void
}

/** Several tasks' classes as one label space. */
export interface UnionClasses {
  readonly classes: readonly ClassPrompts[]
  /** place in the union of each class of each task */
  readonly places: readonly (readonly number[])[]
}

/**
 * Classes of the same name are one class, whichever task they came with: it is said with the prompts of all of them, and either
 * task's images are right to be given it.
 */
export function unionOf(tasks: readonly Pick<StreamTask, 'classes'>[]): UnionClasses {
  const places = new Map<string, number>()
  const classes: { name: string; prompts: string[] }[] = []
  const each = tasks.map((task) =>
    promptsOf(task.classes).map(({ name, prompts }) => {
      const key = name.trim().toLowerCase()
      const place = places.get(key) ?? classes.push({ name, prompts: [] }) - 1
      places.set(key, place)
      const known = classes[place].prompts
      known.push(...prompts.filter((prompt) => !known.includes(prompt)))
      return place
    }),
  )
  return { classes, places: each }
}

/**
 * Evaluates after task `after` (-1: the pretrained model). Two calls give the same and leave the method as it was. The union is that of
 * all tasks of the stream; class-incremental: of the tasks so far; domain-incremental has one label space and no union.
 */
export async function evaluateStage(learner: Learner, stream: TaskStream, after: number, options: StageOptions = {}): Promise<LearnStage> {
  const { protocol, tasks, watch } = stream
  const cumulative = protocol === 'class-incremental'
  const inUnion = protocol === 'domain-incremental' ? [] : cumulative ? tasks.slice(0, after + 1) : tasks
  const union = unionOf(inUnion)
  const sets: Record<string, SetAccuracy> = {}
  const cache = new FeatureCache()
  for (const [t, { name, classes, test }] of tasks.entries()) {
    if (!test) continue
    const score = { ...options, cache, onProgress: progressOf(name, options) }
    const own = await accuracy(learner, test, promptsOf(classes), undefined, score)
    const places = union.places[t]
    const whole = places && (await accuracy(learner, test, union.classes, places, score))
    sets[name] = { ...setOf(own, after), ...(whole ? { union: whole.value } : {}) }
  }
  for (const { name, data } of watch)
    sets[name] = setOf(
      await accuracy(learner, data, promptsOf(data), undefined, { ...options, cache, onProgress: progressOf(name, options) }),
      after,
    )
  return { after, ...(union.classes.length > 0 ? { unionClasses: union.classes.length } : {}), sets }
}

/**
 * Mean over the tasks so far of the accuracy on their validation sets, as at test: what settings are chosen by. Class-incremental: in the
 * union of the classes so far. undefined without validation sets.
 */
export async function evaluateValidation(
  learner: Learner,
  { protocol, tasks }: TaskStream,
  options: StageOptions = {},
): Promise<number | undefined> {
  const union = protocol === 'class-incremental' ? unionOf(tasks) : undefined
  const values: number[] = []
  for (const [t, { name, classes, validation }] of tasks.entries()) {
    if (!validation) continue
    const score = { ...options, onProgress: progressOf(`${name} validation`, options) }
    values.push((await accuracy(learner, validation, union?.classes ?? promptsOf(classes), union?.places[t], score)).value)
  }
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length
}

/** @param places of the set's labels among the classes; default the same numbers */
export async function accuracy(
  learner: Learner,
  data: Dataset,
  classes: readonly ClassPrompts[],
  places?: readonly number[],
  options: ScoreOptions = {},
): Promise<{ value: number; images: number; selection?: Scored['selection'] }> {
  const labels = data.labels()
  const predicted = new Int32Array(data.length)
  const visit = (scores: Float32Array, first: number, rows: number) => {
    for (let row = 0; row < rows; row++) predicted[first + row] = argmax(scores, row * classes.length, classes.length)
  }
  const { samples, selection } = await learner.score(data, classes, visit, options)
  const right = samples.filter((sample, row) => predicted[row] === (places ? places[labels[sample]] : labels[sample])).length
  return { value: right / Math.max(1, samples.length), images: samples.length, selection }
}

/** Bins of the histogram of weights. */
const BINS = 20

function setOf({ value, images, selection }: Awaited<ReturnType<typeof accuracy>>, after: number): SetAccuracy {
  if (!selection) return { own: value, images }
  const tasks = new Array<number>(after + 1).fill(0)
  const weights = new Array<number>(BINS).fill(0)
  for (const task of selection.task) tasks[task]++
  for (const weight of selection.weight) weights[Math.min(BINS - 1, Math.floor(weight * BINS))]++
  return { own: value, images, selection: { tasks, weights } }
}

const progressOf =
  (set: string, { onProgress }: StageOptions) =>
  (progress: EncodeProgress) =>
    onProgress?.({ set, ...progress })
