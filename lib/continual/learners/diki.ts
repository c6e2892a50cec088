// DIKI (ECCV 2024; methods/diki.ts) over a stream of tasks: a bank of keys and values a task, trained alone; a Gaussian of the frozen
// image features a task, which tells at test time whose bank an image is given and how much of it. Weight and task follow the image
// into the text tower. The pretrained model never changes, so an image that is far from every task is answered as before.
import { z } from 'zod'
import type { Dataset } from '../../data/dataset.js'
import { Diki, DikiStack } from '../../methods/diki.js'
import type { Clip } from '../../models/clip.js'
import { ClassCrossEntropy } from '../../objectives/cross-entropy.js'
import { Gaussian } from '../../statistics/gaussian.js'
import { Tensor } from '../../tensor.js'
import { type EncodeOptions, encodeImages, FeatureCache, type ImageFeatures, type ScoreVisitor } from '../../train/features.js'
import { cosineScores } from '../cosine-scores.js'
import { selectTasks, type TaskSelection } from '../gaussian-selector.js'
import type {
  ClassPrompts,
  DoublesReader,
  Learner,
  LearnerState,
  LearnTask,
  Scored,
  ScoreOptions,
  StateReader,
  TaskTraining,
} from '../learner.js'
import { type LearnerContext, promptsOf } from '../learner-options.js'
import { savedJson } from '../saved-json.js'
import { bytesOf } from '../snapshot.js'
import { fitDensity, type TaskDensity } from '../task-density.js'
import { TextBank } from '../text-bank.js'
import { type DikiSettings, dikiTraining } from './diki-settings.js'

interface DikiTask extends TaskDensity {
  readonly bank: Diki
}

const savedTasks = z.object({
  /** how many of the tasks are finished */
  learned: z.number().int().min(0),
  tasks: z.array(
    z.object({
      estimate: z.object({ count: z.number(), method: z.enum(['none', 'fixed', 'ledoit-wolf']), intensity: z.number(), ridge: z.number() }),
      calibration: z.object({ slope: z.number(), offset: z.number() }),
    }),
  ),
})

class DikiLearner implements Learner {
  readonly name = 'diki'
  readonly settings: Readonly<Record<string, unknown>>
  readonly block?: number
  /** those finished, then the one being learned */
  private tasks: DikiTask[] = []
  private learned = 0
  private stack?: DikiStack
  private readonly texts: TextBank
  /** of the model as it was pretrained: once for each image in all stages */
  private readonly frozen = new FeatureCache()
  /** the set that was looked at last, with the features of its images under their banks: often it is asked for again with other classes */
  private last?: { readonly data: Dataset; readonly values: Float32Array }

  constructor(
    private readonly clip: Clip,
    private readonly options: DikiSettings,
    private readonly context: LearnerContext,
  ) {
    this.settings = { ...options }
    if (options.vote === 'batch' || options.textWeight === 'batch-mean') this.block = options.voteBatch
    this.texts = new TextBank(clip, (task, weight) => this.tasks[task].bank.at(weight), { cells: options.cells })
  }

  get parameterCount(): number {
    return this.tasks.flatMap(({ bank }) => bank.parameters).reduce((sum, { count }) => sum + count, 0)
  }

  async begin(task: LearnTask, options: EncodeOptions): Promise<TaskTraining> {
    this.forgetUnfinished()
    const features = await encodeImages(this.clip, task.train, undefined, { ...options, cache: undefined })
    const ids = Array.from(features.samples, (sample) => task.train.samples[sample].id)
    const note = (text: string) => this.context.note?.(`${task.name}: ${text}`)
    const density = await fitDensity(features.values, this.clip.config.projectionDim, ids, this.options, note)
    this.tasks.push({ ...density, bank: this.makeBank(this.tasks.length) })
    return {
      method: this.tasks[this.learned].bank,
      objective: new ClassCrossEntropy(this.clip.logitScale),
      options: dikiTraining(
        this.options,
        task.train.length,
        promptsOf(task.train).map(({ prompts }) => prompts[0]),
      ),
      keepBest: this.options.keepBest ?? true,
      beside: { held: this.held },
    }
  }

  /** Bytes of statistics, banks of earlier tasks (their stack holds them once more) and heads. */
  private get held(): number {
    const statistics = this.tasks.reduce((sum, { gaussian }) => sum + gaussian.bytes, 0)
    return statistics + 2 * bytesOf(this.tasks.slice(0, this.learned).flatMap(({ bank }) => bank.parameters)) + this.texts.bytes
  }

  async end(): Promise<void> {
    for (const parameter of this.tasks[this.learned].bank.parameters) parameter.trainable = false
    this.learned++
    this.restack()
  }

  async score(data: Dataset, classes: readonly ClassPrompts[], visit: ScoreVisitor, options: ScoreOptions = {}): Promise<Scored> {
    if (options.task !== undefined) {
      const { bank } = this.tasks[options.task]
      return cosineScores(this.clip, bank, data, classes, visit, { ...options, cache: undefined })
    }
    if (!this.stack) return cosineScores(this.clip, undefined, data, classes, visit, { ...options, cache: this.frozen })
    const { values, samples, skipped, selection } = await this.encode(data, options)
    if (!selection) return { samples, skipped }
    const { task, weight } = selection
    const textWeight = this.options.towers.includes('text') ? selection.textWeight : new Float32Array(task.length)
    await this.texts.scores(values, classes, { task, textWeight }, visit, options)
    return { samples, skipped, selection: { task, weight } }
  }

  async encode(data: Dataset, options: EncodeOptions = {}): Promise<ImageFeatures & { readonly selection?: TaskSelection }> {
    const frozen = await encodeImages(this.clip, data, undefined, { ...options, cache: this.frozen })
    const { samples, skipped } = frozen
    if (!this.stack || samples.length === 0) return frozen
    const selection = await selectTasks(frozen.values, this.tasks.slice(0, this.learned), this.options)
    const values = await this.injected(data, frozen, selection.task, selection.weight, options)
    return { values, samples, skipped, selection }
  }

  state(): LearnerState {
    const doubles = new Map(
      this.tasks.flatMap(({ gaussian }, t) => [
        [`task-${t}.mean`, gaussian.mean] as const,
        [`task-${t}.covariance`, gaussian.covariance] as const,
      ]),
    )
    const tasks = this.tasks.map(({ gaussian, calibration }) => ({ estimate: gaussian.estimate, calibration }))
    return { json: { learned: this.learned, tasks }, tensors: this.tasks.flatMap(({ bank }) => bank.parameters), doubles }
  }

  async restore(json: Readonly<Record<string, unknown>>, read: StateReader, readDoubles: DoublesReader): Promise<void> {
    const saved = savedJson(this.name, savedTasks, json)
    this.forgetAll()
    this.learned = saved.learned
    for (const [t, { estimate, calibration }] of saved.tasks.entries()) {
      const [mean, covariance] = [await readDoubles(`task-${t}.mean`), await readDoubles(`task-${t}.covariance`)]
      const bank = this.makeBank(t)
      this.tasks.push({ gaussian: await Gaussian.of(estimate, mean, covariance), calibration, bank })
      for (const parameter of bank.parameters) {
        parameter.write((await read(parameter.name)).data)
        parameter.trainable = t >= this.learned
      }
    }
    this.restack()
  }

  dispose(): void {
    this.forgetAll()
  }

  /** Features [N, P] of the images of `frozen`, each under its own task's bank at its own weight. */
  private async injected(data: Dataset, frozen: ImageFeatures, task: Int32Array, weight: Float32Array, options: EncodeOptions) {
    const { stack } = this
    if (!stack || !this.options.towers.includes('vision')) return frozen.values
    if (this.last?.data === data) return this.last.values
    const row = new Map(Array.from(frozen.samples, (sample, i) => [sample, i]))
    const { values } = await encodeImages(
      this.clip,
      data,
      (samples) => {
        const rows = Array.from(samples, (sample) => row.get(sample) ?? 0)
        const index = Int32Array.from(rows, (i) => task[i])
        const weights = Float32Array.from(rows, (i) => weight[i])
        return stack.at(Tensor.from(index, [rows.length], 'i32'), Tensor.from(weights, [rows.length]))
      },
      { ...options, onSkip: undefined }, // told of in the first pass
    )
    this.last = { data, values }
    return values
  }

  private makeBank(task: number): Diki {
    const { depth, length, towers } = this.options
    return new Diki(this.clip, { depth, length, towers, seed: this.context.seed }, task)
  }

  private restack(): void {
    this.last = undefined
    this.stack?.dispose()
    this.stack = this.learned > 0 ? new DikiStack(this.tasks.slice(0, this.learned).map(({ bank }) => bank)) : undefined
  }

  private forgetUnfinished(): void {
    for (const { bank } of this.tasks.splice(this.learned)) bank.dispose()
  }

  private forgetAll(): void {
    this.learned = 0
    this.forgetUnfinished()
    this.restack()
    this.texts.clear()
  }
}

export async function createDikiLearner(clip: Clip, options: DikiSettings, context: LearnerContext): Promise<Learner> {
  return new DikiLearner(clip, options, context)
}
