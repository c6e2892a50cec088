// The one training loop: batches of images and texts into steps (training-step.ts), with what is told, kept and resumed on the way.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fingerprint } from '../checkpoint/fingerprint.js'
import { checkSameRun, loadTensors, type RunState, readRunState, writeRunState } from '../checkpoint/run-state.js'
import { type Batch, batches, type Cursor } from '../data/batches.js'
import { CambiumError } from '../errors.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { createOptimizer, type Optimizer } from '../optim/optimizer.js'
import { type Parameter, synchronize, type Tensor } from '../tensor.js'
import { BestEpoch } from './best-epoch.js'
import type { TrainEvent } from './events.js'
import { planTrainer, TRAIN_CROP, type TrainerOptions, type TrainerPlan } from './trainer-options.js'
import { TrainingStep } from './training-step.js'

export { type StepTerm, TRAIN_CROP, type TrainerOptions } from './trainer-options.js'

export interface RunOptions {
  /** stops after the step at hand; the run can be resumed */
  signal?: AbortSignal
  /** go on from the checkpoint in `out` */
  resume?: boolean
}

const VERSION: string = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')).version

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
    const base = await fingerprint(this.clip.weights.checkpoint)
    const saved = resume ? await this.restore(base) : undefined
    let done = saved?.step ?? 0
    let cursor: Cursor = saved?.cursor ?? { epoch: 0, position: 0 }
    let skipped = saved?.skipped ?? 0
    native.resetPeak()
    const trainable = this.options.method.parameters.reduce((sum, p) => sum + p.count, 0)
    yield { type: 'start', steps: this.steps, from: done, trainable, momentum: this.momentum, ...warningOf(saved) }

    const every = this.options.checkpointEvery ?? this.stepsPerEpoch
    const save = async () => {
      if (!this.options.out) return
      const state = {
        cambium: VERSION,
        level: native.backendInfo().level,
        base,
        settings: this.plan.settings,
        step: done,
        steps: this.steps,
        cursor,
        skipped,
        best: this.best?.standing,
      }
      await writeRunState(this.options.out, state, this.state())
    }
    let reported = performance.now()
    let written = done
    let refused: string | undefined
    if (done < this.steps) {
      for await (const batch of this.batches(cursor)) {
        if (signal?.aborted) break
        const lr = this.plan.rate(done)
        const { loss, norm2 } = await this.step.run(batch, done, lr)
        const gradientNorm = Math.sqrt(norm2)
        // A gradient that is not finite has spoilt the parameters, however good the loss was: no checkpoint of that.
        if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm))
          throw new CambiumError(
            'E_NAN',
            `train: expected a finite loss and gradient, got ${loss} and norm ${gradientNorm} at step ${done + 1}; ` +
              `the last checkpoint is from step ${written}`,
            { details: { step: done + 1, checkpoint: written } },
          )
        done++
        cursor = batch.next
        skipped = (saved?.skipped ?? 0) + batch.skipped
        const now = performance.now()
        const imagesPerSecond = (this.options.batch * 1000) / (now - reported)
        reported = now
        this.options.afterStep?.(done)
        yield { type: 'step', step: done, steps: this.steps, epoch: batch.epoch, loss, lr, gradientNorm, imagesPerSecond, skipped }
        if (this.step.refused !== refused) {
          refused = this.step.refused
          if (refused !== undefined) yield { type: 'plain', step: done, reason: refused }
        }
        if (this.best && this.options.keepBest && done % this.stepsPerEpoch === 0) {
          const epoch = done / this.stepsPerEpoch - 1
          const score = await this.options.keepBest(epoch)
          yield { type: 'scored', step: done, epoch, score, best: this.best.offer(epoch, score) }
          reported = performance.now()
        }
        if (this.options.out && (done % every === 0 || done === this.steps)) {
          await save()
          written = done
          yield { type: 'checkpoint', step: done, folder: this.options.out }
        }
        if (done === this.steps) break
      }
    }
    const aborted = done < this.steps
    if (!aborted) this.best?.putBack()
    await synchronize()
    if (aborted && this.options.out && written !== done) {
      await save()
      yield { type: 'checkpoint', step: done, folder: this.options.out }
    }
    yield {
      type: 'end',
      step: done,
      reason: aborted ? 'aborted' : 'done',
      seconds: (performance.now() - began) / 1000,
      peakBytes: native.memory().peak,
    }
  }

  dispose(): void {
    this.step.dispose()
    this.optimizer.dispose()
    this.best?.dispose()
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

/** Bits are promised for one CPU level and version only. */
function warningOf(saved: RunState | undefined): { warning?: string } {
  const { level } = native.backendInfo()
  if (!saved || (saved.level === level && saved.cambium === VERSION)) return {}
  return {
    warning: `resumed with ${VERSION} at level ${level}, begun with ${saved.cambium} at ${saved.level}: the result may differ in its last bits`,
  }
}
