/**
 * A prompt for each task with key matching, over CLIP: DualPrompt (Wang et al., ECCV 2022) without its shared prompt and its linear
 * head. In training the task is known and its key is pulled to the frozen features q of its images,
 *
 *   L = CE − λ mean cos(q, K_t);
 *
 * an image is then given the task t = argmax cos(q, K_t), each by itself, and both towers run under that task's prompt.
 */
import { z } from 'zod'
import type { Dataset } from '../../data/dataset.js'
import { Prefix, type PrefixOptions, PrefixStack } from '../../methods/prefix.js'
import type { Clip } from '../../models/clip.js'
import { ClassCrossEntropy } from '../../objectives/cross-entropy.js'
import { l2Normalize, linear, sum } from '../../ops.js'
import { Tensor } from '../../tensor.js'
import { type EncodeOptions, encodeImages, FeatureCache, type ImageFeatures } from '../../train/features.js'
import type { StepTerm } from '../../train/train.js'
import { cosineScores } from '../cosine-scores.js'
import type { ClassPrompts, Learner, Scored, ScoreOptions } from '../learner.js'
import { type LearnerContext, trainingOptions, trainingShape } from '../learner-options.js'
import { savedJson } from '../saved-json.js'
import { TextBank } from '../text-bank.js'
import { firstPrompts } from './full-weights.js'

const positive = z.number().int().positive()

export const prefixSettings = z.strictObject({
  ...trainingShape,
  /** blocks of each tower with a prompt, the first ones, and keys and values in each. Default 8 and 8, as DIKI */
  depth: positive.optional(),
  length: positive.optional(),
  towers: z
    .array(z.enum(['vision', 'text']))
    .min(1)
    .optional(),
  /** uniform start of prompts and keys. Default [0, 0.01) */
  range: z.tuple([z.number(), z.number()]).optional(),
  /** what a task's prompt begins with. Default the previous task's (DualPrompt's code) */
  start: z.enum(['previous', 'random']).optional(),
  /** λ. Default 1 */
  pull: z.number().min(0).optional(),
})

const savedTasks = z.object({ tasks: z.number().int().min(0) })

export type PrefixLearnerOptions = z.infer<typeof prefixSettings>

export const createPrefixLearner = async (clip: Clip, options: PrefixLearnerOptions = {}, context: LearnerContext = { seed: 0 }) =>
  new PrefixLearner(clip, options, context)

interface Prompted {
  /** i32 [N] */
  readonly task: Int32Array
  readonly features: ImageFeatures
}

class PrefixLearner implements Learner {
  readonly name = 'prefix'
  readonly settings: Readonly<Record<string, unknown>>
  private readonly finished: Prefix[] = []
  private current: Prefix | undefined
  private readonly frozen = new FeatureCache() // the model itself never changes
  /** of finished tasks, whose prompts never change */
  private readonly heads: TextBank
  /** features under the prompts, as long as the loop keeps those of one stage */
  private readonly prompted = new WeakMap<FeatureCache, Map<Dataset, Prompted>>()

  constructor(
    private readonly clip: Clip,
    private readonly options: PrefixLearnerOptions,
    private readonly context: LearnerContext,
  ) {
    this.settings = { ...options }
    this.heads = this.newHeads()
  }

  get parameterCount(): number {
    return this.finished.reduce((total, { parameters }) => total + parameters.reduce((sum, { count }) => sum + count, 0), 0)
  }

  async begin(...[task, encode]: Parameters<Learner['begin']>) {
    const { options, clip } = this
    this.current?.dispose()
    const previous = options.start === 'random' ? undefined : this.finished.at(-1)
    this.current = new Prefix(clip, this.promptOptions, task.index, previous)
    const { batch = 128 } = options
    const lr = options.lr ?? (0.03 * batch) / 256
    const queries = await this.queries(task.train, encode)
    const defaults = { lr, minLr: lr, warmup: 0, batch, clipNorm: 1, ema: false, augment: false } as const // a constant rate
    return {
      method: this.current,
      objective: new ClassCrossEntropy(clip.logitScale),
      options: {
        ...trainingOptions(options, defaults),
        classTexts: firstPrompts(task),
        terms: [pullTerm(this.current.key, queries, options.pull ?? 1)],
      },
      keepBest: options.keepBest,
    }
  }

  async end(): Promise<void> {
    if (this.current) this.finished.push(this.current)
    this.current = undefined
  }

  async score(
    data: Dataset,
    classes: readonly ClassPrompts[],
    visit: (scores: Float32Array, first: number, rows: number) => void,
    options: ScoreOptions = {},
  ): Promise<Scored> {
    const tasks = this.current ? [...this.finished, this.current] : this.finished
    if (tasks.length === 0) return cosineScores(this.clip, undefined, data, classes, visit, { ...options, cache: this.frozen })
    const { task, features } = await this.underPrompts(tasks, data, options)
    const { values, samples, skipped } = features
    const { task: _, ...encoding } = options
    const weight = new Float32Array(samples.length).fill(1)
    const heads = this.current ? this.newHeads() : this.heads // while a prompt trains, no head of it lasts
    await heads.scores(values, classes, { task, textWeight: weight }, visit, encoding)
    return { samples, skipped, selection: { task, weight } }
  }

  async encode(data: Dataset, options: EncodeOptions = {}): Promise<ImageFeatures & Pick<Scored, 'selection'>> {
    if (this.finished.length === 0) return this.queries(data, options)
    const { task, features } = await this.underPrompts(this.finished, data, options)
    return { ...features, selection: { task, weight: new Float32Array(task.length).fill(1) } }
  }

  state() {
    return { json: { tasks: this.finished.length }, tensors: this.finished.flatMap(({ parameters }) => parameters) }
  }

  async restore(...[json, read]: Parameters<Learner['restore']>): Promise<void> {
    const { tasks } = savedJson(this.name, savedTasks, json)
    for (let task = 0; task < tasks; task++) {
      const prefix = new Prefix(this.clip, this.promptOptions, task)
      this.finished.push(prefix)
      for (const parameter of prefix.parameters) parameter.write((await read(parameter.name)).data)
    }
  }

  dispose(): void {
    for (const prefix of this.finished) prefix.dispose()
    this.current?.dispose()
  }

  /** Every image under the prompt that is chosen for it. */
  private async underPrompts(tasks: readonly Prefix[], data: Dataset, options: ScoreOptions): Promise<Prompted> {
    const kept = options.cache && (this.prompted.get(options.cache) ?? new Map<Dataset, Prompted>())
    const known = kept?.get(data)
    if (known && options.task === undefined) return known
    const queries = await this.queries(data, options)
    const count = queries.samples.length
    const task = options.task === undefined ? await this.select(queries.values) : new Int32Array(count).fill(options.task)
    const rowOf = new Map(Array.from(queries.samples, (sample, row) => [sample, row]))
    const stack = new PrefixStack(tasks)
    const under = (samples: Int32Array) =>
      stack.at(
        Tensor.from(
          samples.map((sample) => task[rowOf.get(sample) ?? 0]),
          [samples.length],
          'i32',
        ),
      )
    try {
      const features = await encodeImages(this.clip, data, under, { ...options, cache: undefined, onSkip: undefined }) // told of in the first pass
      if (options.cache && kept && options.task === undefined) this.prompted.set(options.cache, kept.set(data, { task, features }))
      return { task, features }
    } finally {
      stack.dispose()
    }
  }

  private get promptOptions(): PrefixOptions {
    const { depth, length, towers, range } = this.options
    return { depth, length, towers, range, seed: this.context.seed }
  }

  private newHeads(): TextBank {
    const view = async (task: number, weight: number) => (this.finished[task] ?? (this.current as Prefix)).at(weight)
    return new TextBank(this.clip, view) // the weight is 1: no other head is made
  }

  /** Frozen features. */
  private queries(data: Dataset, options: EncodeOptions): Promise<ImageFeatures> {
    return encodeImages(this.clip, data, undefined, { ...options, cache: this.frozen })
  }

  /** argmax cos(q, K_t) of each query, of equals the first; among the tasks that have ended. */
  private async select(queries: Float32Array): Promise<Int32Array> {
    const width = this.clip.config.projectionDim
    const task = new Int32Array(queries.length / width)
    const best = new Float64Array(task.length).fill(Number.NEGATIVE_INFINITY)
    for (const [t, { key }] of this.finished.entries()) {
      const direction = await key.floats()
      const norm = Math.hypot(...direction)
      for (let i = 0; i < task.length; i++) {
        let dot = 0
        for (let k = 0; k < width; k++) dot += queries[i * width + k] * direction[k]
        if (dot / norm <= best[i]) continue
        best[i] = dot / norm
        task[i] = t
      }
    }
    return task
  }
}

/** −λ mean cos(q, K). */
function pullTerm(key: Tensor, { values, samples }: ImageFeatures, pull: number): StepTerm {
  const width = key.shape[1]
  const rowOf = new Map(Array.from(samples, (sample, row) => [sample, row]))
  return {
    settings: { pull },
    async prepare(_, batch) {
      const queries = new Float32Array(batch.samples.length * width)
      for (const [i, sample] of batch.samples.entries()) {
        const row = (rowOf.get(sample) ?? 0) * width
        queries.set(values.subarray(row, row + width), i * width)
      }
      return [Tensor.from(queries, [batch.samples.length, width])]
    },
    loss: (_image, _text, [queries]) => sum(linear(queries, l2Normalize(key)), -pull / queries.shape[0]),
  }
}
