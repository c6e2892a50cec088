/**
 * The one loop over a stream of tasks: for each, the method prepares, the trainer trains, the method consolidates, and every set is
 * looked at. The loop owns order, data, checkpoints and measures; the method owns decisions. After each task everything that the
 * next one needs is on disk; in the middle of one, the trainer's checkpoint is.
 */
import { join } from 'node:path'
import { fingerprint } from '../checkpoint/fingerprint.js'
import { CambiumError, isCambiumError } from '../errors.js'
import { rm } from '../files.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { holdFolder } from '../formats/hold-folder.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { otherBits } from '../train/environment.js'
import type { CheckpointEvent, EndEvent, PlainEvent, ScoredEvent, StepEvent } from '../train/events.js'
import { DecodedImages, FeatureCache } from '../train/features.js'
import { measureRate } from '../train/plan.js'
import { Trainer } from '../train/train.js'
import { VERSION } from '../version.js'
import { accuracy, evaluateStage, evaluateValidation, type StageOptions } from './evaluate-stage.js'
import type { LearnedTask, LearnReport, LearnStage } from './learn-report.js'
import { checkSameLearner, type LearnState, readLearnState, restoreLearner, settingsOf, writeLearnState } from './learn-state.js'
import type { Learner, LearnTask, TaskTraining } from './learner.js'
import { promptsOf } from './learner-options.js'
import { decodedBytes, planTask, secondsOf } from './plan-task.js'
import { checkStream, type StreamTask, type TaskStream } from './tasks.js'

/** A stream of tasks, the method that learns it, and where its run is kept. */
export interface LearnOptions {
  /** tasks in their order and the sets that are watched, as {@link openTasks} gives them */
  stream: TaskStream
  /** disposed by the caller */
  learner: Learner
  /** folder of the run; one that holds a run goes on */
  out: string
  /** how the method is called in tables; default its name */
  label?: string
  /** what the method was made of, for whoever opens the run later; default what the method tells */
  options?: Readonly<Record<string, unknown>>
  /** of every random draw. Default 0 */
  seed?: number
  /** steps between checkpoints within a task (default: one an epoch), or none: a task that is killed begins anew */
  checkpointEvery?: number | false
  /** images at once where sets are looked at; default 64. Changes no result */
  evaluationBatch?: number
  /** bytes; a task that is estimated to need more is refused. Default: what is free */
  memoryBudget?: number
  /** leave out images that cannot be decoded; default as each set says */
  skipBroken?: boolean
  /** turn images as their EXIF orientation says; default false */
  exif?: boolean
  /** told of each image left out */
  onSkip?: (error: CambiumError) => void
  /** told while sets are looked at */
  onProgress?: StageOptions['onProgress']
  /** stops after the step or the set at hand; the run can be resumed */
  signal?: AbortSignal
}

/** What {@link learn} tells on its way: plain objects. */
export type LearnEvent =
  /** tasks of the stream; `from`: learned before */
  | { readonly type: 'start'; readonly tasks: number; readonly from: number; readonly warning?: string }
  | {
      readonly type: 'task'
      readonly task: number
      readonly name: string
      readonly images: number
      readonly classes: number
      readonly steps: number
      /** estimated, of training it */
      readonly bytes: number
      readonly seconds: number
    }
  | ({ readonly task: number } & (StepEvent | PlainEvent | ScoredEvent | CheckpointEvent))
  | { readonly type: 'evaluated'; readonly stage: LearnStage }
  | { readonly type: 'end'; readonly reason: 'done' | 'aborted'; readonly report: LearnReport }

/** Decoded images of the test sets that are kept from stage to stage. */
const DECODED_BYTES = 1e9

/**
 * Learns the tasks that the run in `out` has not learned yet, and writes `learn.json`. Stopping to iterate stops the run.
 * @throws E_OPTION for a stream that does not fit, E_BASE, E_RUN for a folder that holds another run, E_OUT for one that another
 * process writes, what training throws
 */
export async function* learn(clip: Clip, options: LearnOptions): AsyncGenerator<LearnEvent, LearnReport, undefined> {
  checkStream(options.stream)
  const run = new LearnRun(clip, options, await fingerprint(clip.weights.checkpoint))
  const release = await holdFolder(options.out)
  try {
    return yield* run.go()
  } catch (error) {
    const { signal } = options
    if (!signal?.aborted || (isCambiumError(error) && error !== signal.reason)) throw error
    const report = run.report()
    yield { type: 'end', reason: 'aborted', report }
    return report
  } finally {
    await release()
  }
}

class LearnRun {
  private readonly tasks: LearnedTask[] = []
  private readonly stages: LearnStage[] = []
  private validation: number | undefined
  private peakBytes = 0
  /** of this machine; measured once */
  private rate: number | undefined
  private readonly evaluation: StageOptions
  private readonly decoded: DecodedImages

  constructor(
    private readonly clip: Clip,
    private readonly options: LearnOptions,
    private readonly base: string,
  ) {
    const { stream, signal, evaluationBatch: batch, skipBroken, exif, onSkip, onProgress } = options
    this.decoded = new DecodedImages(DECODED_BYTES / (2 * stream.tasks.length + stream.watch.length))
    this.evaluation = { signal, batch, skipBroken, exif, onSkip, onProgress, decoded: this.decoded }
  }

  async *go(): AsyncGenerator<LearnEvent, LearnReport, undefined> {
    const { stream, learner } = this.options
    const saved = await this.restore()
    yield { type: 'start', tasks: stream.tasks.length, from: this.tasks.length, ...otherBits(saved) }
    for (let after = -1; after < stream.tasks.length; after++) {
      if (after >= this.tasks.length) {
        const learned = yield* this.learnTask(after)
        if (!learned) {
          const report = this.report()
          yield { type: 'end', reason: 'aborted', report }
          return report
        }
        this.tasks.push(learned)
        await this.save(true)
        await rm(this.folderOf(after), { recursive: true, force: true })
      }
      if (after + 1 < this.stages.length) continue // looked at before
      const stage = await evaluateStage(learner, stream, after, this.evaluation)
      this.peakBytes = Math.max(this.peakBytes, native.memory().peak)
      this.stages.push(stage)
      if (after >= 0) await this.save(false)
      yield { type: 'evaluated', stage }
    }
    this.validation = await evaluateValidation(learner, stream, this.evaluation)
    const report = this.report()
    await writeFileAtomic(join(this.options.out, 'learn.json'), `${JSON.stringify(report, null, 1)}\n`)
    yield { type: 'end', reason: 'done', report }
    return report
  }

  /** One task from begin to end; undefined when it was stopped. */
  private async *learnTask(t: number): AsyncGenerator<LearnEvent, LearnedTask | undefined, undefined> {
    const { stream, learner, signal } = this.options
    const task = taskOf(stream, t)
    const training = await learner.begin(task, { ...this.evaluation, onProgress: undefined })
    const classes = task.train.classNames.length
    const about = { name: task.name, classes, train: task.train.length, validation: task.validation?.length ?? 0 }
    if (!training) {
      yield { type: 'task', task: t, name: task.name, images: task.train.length, classes, steps: 0, bytes: 0, seconds: 0 }
      await learner.end(task)
      return { ...about, steps: 0, seconds: 0, trained: 0 }
    }
    const trainer = this.trainerOf(task, training)
    try {
      const { beside } = training
      const held = (beside?.held ?? 0) + decodedBytes(stream, task.train, this.decoded)
      const { bytes, flops } = planTask(this.clip, trainer.options, { ...beside, held }, this.options.memoryBudget)
      this.rate ??= await measureRate(this.clip.dtype)
      const estimate = { bytes, seconds: secondsOf(flops, this.rate) }
      yield { type: 'task', task: t, name: task.name, images: trainer.options.data.length, classes, steps: trainer.steps, ...estimate }
      let last: EndEvent | undefined
      for await (const event of trainer.run({ signal, resume: this.options.checkpointEvery !== false })) {
        if (event.type === 'end') last = event
        else if (event.type !== 'start') yield { ...event, task: t }
      }
      this.peakBytes = Math.max(this.peakBytes, last?.peakBytes ?? 0)
      if (last?.reason !== 'done') return undefined
      await learner.end(task, trainer.averages)
      const trained = training.method.parameters.reduce((sum, p) => sum + p.count, 0)
      return { ...about, steps: trainer.steps, seconds: last.seconds, trained }
    } finally {
      trainer.dispose()
    }
  }

  private trainerOf(task: LearnTask, { method, objective, options: wanted, keepBest }: TaskTraining): Trainer {
    const { learner, seed = 0, checkpointEvery, skipBroken, exif, onSkip } = this.options
    const { data = task.train, ...rest } = { epochs: 10, batch: 64, ...wanted }
    const { validation, index } = task
    const score = async (set: NonNullable<typeof validation>) => {
      const options = { ...this.evaluation, onProgress: undefined, cache: new FeatureCache(), task: index }
      return (await accuracy(learner, set, promptsOf(task.train), undefined, options)).value
    }
    return new Trainer(this.clip, {
      seed,
      skipBroken,
      exif,
      onSkip,
      ...(keepBest && validation ? { keepBest: () => score(validation) } : {}),
      ...rest,
      method,
      objective,
      data,
      batch: Math.min(rest.batch, data.length),
      ...(checkpointEvery === false ? {} : { out: this.folderOf(index), checkpointEvery }),
    })
  }

  /** Where the trainer's checkpoints of a task are until it is learned. */
  private folderOf(task: number): string {
    return join(this.options.out, `task-${task}`)
  }

  private async restore(): Promise<LearnState | undefined> {
    const { out, learner, stream } = this.options
    const saved = await readLearnState(out)
    if (!saved) return undefined
    checkSameLearner(saved, this.identity())
    for (const [t, { name, digest }] of saved.tasks.entries()) {
      const now: StreamTask | undefined = stream.tasks[t]
      if (now?.name !== name || now.digest !== digest)
        throw new CambiumError(
          'E_RUN',
          `continue: expected task ${t} to be ${name} with the images that were learned, got ${now?.name ?? 'none'}`,
        )
    }
    const stages = await this.withAddedSets(saved.stages) // while the method has learned nothing
    await restoreLearner(out, saved, learner)
    this.tasks.push(...saved.tasks.map(({ learned }) => learned))
    this.stages.push(...stages)
    this.peakBytes = saved.peakBytes
    for (let t = 0; t < saved.tasks.length; t++) await rm(this.folderOf(t), { recursive: true, force: true })
    return saved
  }

  /** Stages with what the pretrained model is worth on sets that came since; among their own classes, for the union was another then. */
  private async withAddedSets(stages: readonly LearnStage[]): Promise<LearnStage[]> {
    const { stream, learner } = this.options
    const [first, ...later] = stages
    if (!first) return []
    const isNew = ({ name }: { readonly name: string }) => first.sets[name] === undefined
    const added = { ...stream, tasks: stream.tasks.filter(isNew), watch: stream.watch.filter(isNew) }
    const { sets } = await evaluateStage(learner, added, -1, this.evaluation)
    const own = Object.entries(sets).map(([name, { union: _, ...rest }]) => [name, rest] as const)
    return [{ ...first, sets: { ...first.sets, ...Object.fromEntries(own) } }, ...later]
  }

  private identity() {
    const { learner, seed = 0, stream } = this.options
    return { base: this.base, method: learner.name, settings: settingsOf(this.clip, learner), seed, protocol: stream.protocol }
  }

  private async save(changed: boolean): Promise<void> {
    const { out, learner, stream, label = learner.name, options = learner.settings } = this.options
    const tasks = this.tasks.map((learned, t) => {
      const { name, digest, classes, spec } = stream.tasks[t]
      return { name, digest, ...classes, spec, learned }
    })
    const watch = stream.watch.flatMap(({ spec }) => spec ?? [])
    const { level } = native.backendInfo()
    const made = { cambium: VERSION, level, model: this.clip.folder, label, options: { ...options } }
    const about = { ...made, ...this.identity() }
    await writeLearnState(out, { ...about, tasks, watch, stages: this.stages, peakBytes: this.peakBytes }, learner.state(), changed)
    await writeFileAtomic(join(out, 'learn.json'), `${JSON.stringify(this.report(), null, 1)}\n`)
  }

  report(): LearnReport {
    const { stream, learner, label = learner.name, seed = 0 } = this.options
    const sized = (name: string, data: { readonly length: number } | undefined) =>
      data?.length ?? this.stages.findLast((stage) => stage.sets[name])?.sets[name].images ?? 0
    return {
      version: 1,
      cambium: VERSION,
      model: this.clip.folder,
      method: learner.name,
      label,
      seed,
      protocol: stream.protocol,
      settings: learner.settings,
      tasks: this.tasks,
      sets: [
        ...stream.tasks.map(({ name, classes, test }, task) => ({
          name,
          task,
          classes: classes.classNames.length,
          images: sized(name, test),
        })),
        ...stream.watch.map(({ name, data }) => ({ name, task: null, classes: data.classNames.length, images: data.length })),
      ],
      stages: this.stages,
      ...(this.validation === undefined ? {} : { validation: this.validation }),
      parameters: learner.parameterCount,
      peakBytes: this.peakBytes,
    }
  }
}

/** @throws E_DATA for one that has nothing to train on */
function taskOf({ tasks }: TaskStream, t: number): LearnTask {
  const asTask = ({ name, train, validation }: StreamTask, index: number): LearnTask[] =>
    train ? [{ index, name, train, validation }] : []
  const [own] = asTask(tasks[t], t)
  if (!own) throw new CambiumError('E_DATA', `${tasks[t].name}: expected images to train on, got none`)
  return { ...own, previous: tasks.slice(0, t).flatMap(asTask), last: t === tasks.length - 1 }
}
