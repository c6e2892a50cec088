// The one training loop: batches of images and texts into steps (training-step.ts), with what is told, kept and resumed on the way.
import { fingerprint } from '../checkpoint/fingerprint.js'
import { checkSameRun, loadTensors, readRunState, writeRunState } from '../checkpoint/run-state.js'
import { type Batch, batches, type Cursor } from '../data/batches.js'
import { CambiumError } from '../errors.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { createOptimizer } from '../optim/create-optimizer.js'
import type { Optimizer } from '../optim/optimizer.js'
import { type Parameter, synchronize, type Tensor } from '../tensor.js'
import { VERSION } from '../version.js'
import { BestEpoch } from './best-epoch.js'
import { otherBits } from './environment.js'
import type { CheckpointEvent, TrainEvent } from './events.js'
import { planTrainer, TRAIN_CROP, type TrainerOptions, type TrainerPlan } from './trainer-options.js'
import { TrainingStep } from './training-step.js'

export { type StepTerm, TRAIN_CROP, type TrainerOptions } from './trainer-options.js'

/** How one call of {@link Trainer.run} begins and ends. */
export interface RunOptions {
  /** stops after the step at hand; the run can be resumed */
  signal?: AbortSignal
  /** go on from the checkpoint in `out` */
  resume?: boolean
}

/** Where a run is. */
interface Standing {
  /** fingerprint of the pretrained model */
  readonly base: string
  /** done */
  step: number
  /** where the next batch starts */
  cursor: Cursor
  /** broken images so far */
  skipped: number
  /** step of the last checkpoint */
  written: number
}

/**
 * Trains a method on pairs of images and texts. It owns the optimizer's memory until it is disposed; clip, method and objective stay the
 * caller's.
 */
export class Trainer {
  readonly steps: number
  readonly stepsPerEpoch: number
  /** EMA momentum, when an average is kept */
  readonly momentum: number | undefined
  private readonly optimizer: Optimizer
  private readonly plan: TrainerPlan
  private readonly step: TrainingStep
  private readonly best: BestEpoch | undefined

  /** @throws E_OPTION for numbers out of range */
  constructor(
    readonly clip: Clip,
    readonly options: TrainerOptions,
  ) {
    this.plan = planTrainer(clip, options)
    const { steps, stepsPerEpoch, momentum, parameters } = this.plan
    this.steps = steps
    this.stepsPerEpoch = stepsPerEpoch
    this.momentum = momentum
    const { method, weightDecay = 0, clipNorm = 1 } = options
    const decays = (p: Parameter) => method.decays(p)
    this.optimizer = createOptimizer(parameters, options.optimizer, { weightDecay, clipNorm, decays, average: momentum !== undefined })
    this.step = new TrainingStep(clip, options, this.optimizer, momentum)
    this.best = options.keepBest ? new BestEpoch(parameters, this.optimizer.averages) : undefined
  }

  /** Running averages of the trained parameters by name: what to evaluate, save and merge. */
  get averages(): ReadonlyMap<string, Tensor> | undefined {
    return this.optimizer.averages
  }

  /** Graphs of a step that were recorded so far: one for each shape that its texts are padded to. None but on a GPU. */
  get graphs(): number {
    return this.step.graphs
  }

  /**
   * Trains. Stopping to iterate stops the run.
   * @throws E_RUN when resuming something else, E_NAN for a loss that is not finite, what a kernel or the data reports
   */
  async *run({ signal, resume = false }: RunOptions = {}): AsyncGenerator<TrainEvent, void, undefined> {
    const began = performance.now()
    const { out, method } = this.options
    const base = await fingerprint(this.clip.weights.checkpoint)
    const saved = resume ? await this.restore(base) : undefined
    const { step = 0, cursor = { epoch: 0, position: 0 }, skipped = 0 } = saved ?? {}
    const standing: Standing = { base, step, cursor, skipped, written: step }
    native.resetPeak()
    const trainable = method.parameters.reduce((sum, p) => sum + p.count, 0)
    yield { type: 'start', steps: this.steps, from: step, trainable, momentum: this.momentum, ...otherBits(saved) }
    if (step < this.steps) yield* this.train(standing, signal)
    const aborted = standing.step < this.steps
    if (!aborted) this.best?.putBack()
    await synchronize()
    if (aborted && out && standing.written !== standing.step) yield await this.checkpoint(standing, out)
    yield {
      type: 'end',
      step: standing.step,
      reason: aborted ? 'aborted' : 'done',
      seconds: (performance.now() - began) / 1000,
      peakBytes: native.memory().peak,
    }
  }

  /** Frees the optimizer's state and the step's graphs; what was trained stays the method's. */
  dispose(): void {
    this.step.dispose()
    this.optimizer.dispose()
    this.best?.dispose()
  }

  /** Steps until the last one, or until the signal. `standing` is where the run is, whenever it stops. */
  private async *train(standing: Standing, signal: AbortSignal | undefined): AsyncGenerator<TrainEvent, void, undefined> {
    const { batch: size, out, afterStep, keepBest, checkpointEvery = this.stepsPerEpoch } = this.options
    const skippedBefore = standing.skipped
    let reported = performance.now()
    let refused: string | undefined
    for await (const batch of this.batches(standing.cursor)) {
      if (signal?.aborted) return
      const lr = this.plan.rate(standing.step)
      const { loss, gradientNorm } = await this.update(batch, standing, lr)
      const step = ++standing.step
      standing.cursor = batch.next
      standing.skipped = skippedBefore + batch.skipped
      const now = performance.now()
      const imagesPerSecond = (size * 1000) / (now - reported)
      reported = now
      afterStep?.(step)
      const { skipped } = standing
      yield { type: 'step', step, steps: this.steps, epoch: batch.epoch, loss, lr, gradientNorm, imagesPerSecond, skipped }
      if (this.step.refused !== refused) {
        refused = this.step.refused
        if (refused !== undefined) yield { type: 'plain', step, reason: refused }
      }
      if (this.best && keepBest && step % this.stepsPerEpoch === 0) {
        const epoch = step / this.stepsPerEpoch - 1
        const score = await keepBest(epoch)
        yield { type: 'scored', step, epoch, score, best: this.best.offer(epoch, score) }
        reported = performance.now()
      }
      if (out && (step % checkpointEvery === 0 || step === this.steps)) yield await this.checkpoint(standing, out)
      if (step === this.steps) return
    }
  }

  /** @throws E_NAN; a gradient that is not finite has spoilt the parameters, however good the loss was: no checkpoint of that */
  private async update(batch: Batch, { step, written }: Standing, lr: number): Promise<{ loss: number; gradientNorm: number }> {
    const { loss, norm2 } = await this.step.run(batch, step, lr)
    const gradientNorm = Math.sqrt(norm2)
    if (Number.isFinite(loss) && Number.isFinite(gradientNorm)) return { loss, gradientNorm }
    throw new CambiumError(
      'E_NAN',
      `train: expected a finite loss and gradient, got ${loss} and norm ${gradientNorm} at step ${step + 1}; ` +
        `the last checkpoint is from step ${written}`,
      { details: { step: step + 1, checkpoint: written } },
    )
  }

  private async checkpoint(standing: Standing, folder: string): Promise<CheckpointEvent> {
    const { base, step, cursor, skipped } = standing
    const { settings } = this.plan
    const { level } = native.backendInfo()
    const best = this.best?.standing
    await writeRunState(folder, { cambium: VERSION, level, base, settings, step, steps: this.steps, cursor, skipped, best }, this.state())
    standing.written = step
    return { type: 'checkpoint', step, folder }
  }

  private batches(start: Cursor): AsyncGenerator<Batch> {
    const { data, batch, seed = 0, augment = TRAIN_CROP, skipBroken, onSkip, exif, epochs, classTexts } = this.options
    return batches(data, {
      batchSize: batch,
      preprocessor: this.clip.preprocessor,
      augment: augment || undefined,
      texts: classTexts ? undefined : 'random',
      shuffle: true,
      seed,
      // Broken images make an epoch shorter; the schedule's number of steps holds.
      epochs: skipBroken ? Number.POSITIVE_INFINITY : epochs,
      start,
      dropLast: true,
      skipBroken,
      onSkip,
      exif,
    })
  }

  private state(): Parameter[] {
    return [...this.optimizer.state(), ...(this.best?.state ?? []), ...(this.options.extraState ?? [])]
  }

  private async restore(base: string) {
    const { out } = this.options
    if (!out) throw new CambiumError('E_OPTION', 'resume: expected the folder of a run (out), got none')
    const saved = await readRunState(out)
    if (!saved) return undefined
    checkSameRun(saved, base, this.plan.settings)
    await loadTensors(out, saved, this.state())
    this.optimizer.updates = saved.step
    if (saved.best) this.best?.restore(saved.best)
    return saved
  }
}
