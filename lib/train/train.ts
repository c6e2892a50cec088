// The one training loop. Pairs of image and text go through both towers, an objective and backward into the optimizer;
// accumulation is exact for contrastive losses, because features of all micro-batches meet in one loss (`recompute`).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fingerprint } from '../checkpoint/fingerprint.js'
import { checkSameRun, loadTensors, type RunState, readRunState, writeRunState } from '../checkpoint/run-state.js'
import { type Batch, batches, type Cursor } from '../data/batches.js'
import type { Dataset } from '../data/dataset.js'
import { digestOf } from '../data/digest.js'
import { CambiumError } from '../errors.js'
import type { TrainCrop } from '../formats/crop.js'
import type { Method } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import type { TextOptions } from '../models/text-batch.js'
import { native } from '../native.js'
import type { Objective } from '../objectives/objective.js'
import { concatRows } from '../ops.js'
import { AdamW } from '../optim/adamw.js'
import { cosineWarmup, defaultMomentum } from '../optim/schedule.js'
import { backward, recompute, step, synchronize, Tensor } from '../tensor.js'
import type { TrainEvent } from './events.js'

export interface TrainerOptions {
  method: Method
  objective: Objective
  data: Dataset
  epochs: number
  /** pairs per optimizer step */
  batch: number
  /** micro-batches per step: k × batch/k equals batch, with dropping on */
  accumulate?: number
  lr?: number
  /** steps; default a tenth of the run, at most 500 */
  warmup?: number
  minLr?: number
  weightDecay?: number
  /** 0: never */
  clipNorm?: number
  /** running average of the trained parameters: false, true (momentum by length of the run) or a momentum */
  ema?: boolean | number
  seed?: number
  /** RandomResizedCrop scale and ratio, flip; `false`: the evaluation transform */
  augment?: TrainCrop | false
  text?: TextOptions
  skipBroken?: boolean
  exif?: boolean
  /** told of each broken image left out, each time it comes up */
  onSkip?: (error: CambiumError) => void
  /** folder for checkpoints; none are written without it */
  out?: string
  /** steps between checkpoints; default: one an epoch */
  checkpointEvery?: number
}

export interface RunOptions {
  /** stops after the step at hand; the run can be resumed */
  signal?: AbortSignal
  /** go on from the checkpoint in `out` */
  resume?: boolean
}

const VERSION: string = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')).version

/** WiSE-FT's training crop, used by FLYP and R-Adapter too. */
export const TRAIN_CROP: TrainCrop = { scale: [0.9, 1], ratio: [3 / 4, 4 / 3] }

export class Trainer {
  readonly steps: number
  readonly stepsPerEpoch: number
  /** EMA momentum, when an average is kept */
  readonly momentum: number | undefined
  private readonly optimizer: AdamW
  private readonly rate: (step: number) => number
  private readonly settings: Readonly<Record<string, unknown>>

  /** @throws E_OPTION for numbers out of range */
  constructor(
    readonly clip: Clip,
    readonly options: TrainerOptions,
  ) {
    const {
      method,
      objective,
      data,
      epochs,
      batch,
      accumulate = 1,
      lr = 5e-4,
      minLr = 1e-6,
      weightDecay = 0,
      clipNorm = 1,
      ema = true,
      seed = 0,
    } = options
    const positive = (name: string, value: number) => {
      if (!Number.isInteger(value) || value < 1) throw new CambiumError('E_OPTION', `${name}: expected a positive integer, got ${value}`)
    }
    positive('epochs', epochs)
    positive('batch', batch)
    positive('accumulate', accumulate)
    if (batch % accumulate !== 0) throw new CambiumError('E_OPTION', `accumulate: expected a divisor of batch ${batch}, got ${accumulate}`)
    if (data.length < batch)
      throw new CambiumError('E_OPTION', `batch: expected at most the ${data.length} images of the training set, got ${batch}`)
    this.stepsPerEpoch = Math.floor(data.length / batch)
    this.steps = epochs * this.stepsPerEpoch
    const warmup = options.warmup ?? Math.min(500, Math.floor(this.steps / 10))
    this.rate = cosineWarmup({ lr, steps: this.steps, warmup, minLr: Math.min(minLr, lr) })
    if (typeof ema === 'number' && !(ema >= 0 && ema <= 1))
      throw new CambiumError('E_OPTION', `ema: expected a momentum in [0, 1], got ${ema}`)
    this.momentum = ema === false ? undefined : ema === true ? defaultMomentum(this.steps) : ema
    const parameters = [...method.parameters, ...objective.parameters.filter((p) => !method.parameters.includes(p))]
    this.optimizer = new AdamW(parameters, { weightDecay, clipNorm, decays: (p) => method.decays(p), average: this.momentum !== undefined })
    this.settings = {
      method: method.name,
      ...prefixed('method', method.settings),
      ...prefixed('objective', objective.settings),
      epochs,
      batch,
      accumulate,
      lr,
      warmup,
      minLr,
      weightDecay,
      clipNorm,
      momentum: this.momentum,
      seed,
      images: data.length,
      data: digestOf(data),
      augment: options.augment ?? TRAIN_CROP,
      text: options.text ?? {},
      dtype: clip.dtype,
      skipBroken: options.skipBroken ?? false,
      exif: options.exif ?? false,
      trainable: parameters.map((p) => p.name).length,
    }
  }

  /** Running averages of the trained parameters by name: what to evaluate, save and merge. */
  get averages(): ReadonlyMap<string, Tensor> | undefined {
    return this.optimizer.averages
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
        settings: this.settings,
        step: done,
        steps: this.steps,
        cursor,
        skipped,
      }
      await writeRunState(this.options.out, state, this.optimizer.state())
    }
    let reported = performance.now()
    let written = done
    if (done < this.steps) {
      for await (const batch of this.batches(cursor)) {
        if (signal?.aborted) break
        const lr = this.rate(done)
        const { loss, norm2 } = await this.step(batch, done, lr)
        const [value, squared] = await Promise.all([loss, norm2])
        const gradientNorm = Math.sqrt(squared)
        // A gradient that is not finite has spoilt the parameters, however good the loss was: no checkpoint of that.
        if (!Number.isFinite(value) || !Number.isFinite(gradientNorm))
          throw new CambiumError(
            'E_NAN',
            `train: expected a finite loss and gradient, got ${value} and norm ${gradientNorm} at step ${done + 1}; ` +
              `the last checkpoint is from step ${written}`,
            { details: { step: done + 1, checkpoint: written } },
          )
        done++
        cursor = batch.next
        skipped = (saved?.skipped ?? 0) + batch.skipped
        const now = performance.now()
        const imagesPerSecond = (this.options.batch * 1000) / (now - reported)
        reported = now
        yield { type: 'step', step: done, steps: this.steps, epoch: batch.epoch, loss: value, lr, gradientNorm, imagesPerSecond, skipped }
        if (this.options.out && (done % every === 0 || done === this.steps)) {
          await save()
          written = done
          yield { type: 'checkpoint', step: done, folder: this.options.out }
        }
        if (done === this.steps) break
      }
    }
    await synchronize()
    const aborted = done < this.steps
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
    this.optimizer.dispose()
  }

  private batches(start: Cursor): AsyncGenerator<Batch> {
    const { data, batch, seed = 0, augment = TRAIN_CROP, skipBroken, onSkip, exif, epochs } = this.options
    return batches(data, {
      batchSize: batch,
      preprocessor: this.clip.preprocessor,
      augment: augment || undefined,
      texts: 'random',
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

  /** Queues one optimizer step; what it gives can be awaited later. */
  private async step(batch: Batch, index: number, lr: number): Promise<{ loss: Promise<number>; norm2: Promise<number> }> {
    const { method, objective, accumulate = 1, seed = 0, text: textOptions } = this.options
    const tokens = this.clip.tokenize(batch.texts ?? [])
    const labels = batch.labels ?? batch.samples
    method.draw(seed, index)
    const read = (t: Tensor) => t.item()
    return step(() => {
      const size = batch.shape[0] / accumulate
      const each = batch.pixels.length / accumulate
      const parts = Array.from({ length: accumulate }, (_, k) => k)
      const pixels = (k: number) => Tensor.from(batch.pixels.subarray(k * each, (k + 1) * each), [size, ...batch.shape.slice(1)])
      const images = (k: number) => this.clip.encodeImage(pixels(k), method, k * size)
      const texts = (k: number) => this.clip.encodeText(tokens.slice(k * size, (k + 1) * size), method, textOptions)
      const whole = accumulate === 1
      const image = whole ? images(0) : concatRows(parts.map((k) => recompute(() => [images(k)], [])[0]))
      const text = whole ? texts(0) : concatRows(parts.map((k) => recompute(() => [texts(k)], [])[0]))
      const loss = objective.loss(image, text, Tensor.from(labels, [labels.length], 'i32'))
      backward(loss)
      const norm2 = this.optimizer.update(lr, this.momentum)
      return { loss: read(loss), norm2: read(norm2) }
    })
  }

  private async restore(base: string) {
    const { out } = this.options
    if (!out) throw new CambiumError('E_OPTION', 'resume: expected the folder of a run (out), got none')
    const saved = await readRunState(out)
    if (!saved) return undefined
    checkSameRun(saved, base, this.settings)
    await loadTensors(out, saved, this.optimizer.state())
    this.optimizer.updates = saved.step
    return saved
  }
}

const prefixed = (prefix: string, settings: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(settings).map(([key, value]) => [`${prefix}.${key}`, value]))

/** Bits are promised for one CPU level and version only. */
function warningOf(saved: RunState | undefined): { warning?: string } {
  const { level } = native.backendInfo()
  if (!saved || (saved.level === level && saved.cambium === VERSION)) return {}
  return {
    warning: `resumed with ${VERSION} at level ${level}, begun with ${saved.cambium} at ${saved.level}: the result may differ in its last bits`,
  }
}
