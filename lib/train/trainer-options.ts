// What a training run is asked for, checked and with its defaults; what must not change between the parts of a run.
import type { Batch } from '../data/batches.js'
import type { Dataset } from '../data/dataset.js'
import { digestOf } from '../data/digest.js'
import { CambiumError } from '../errors.js'
import type { TrainCrop } from '../formats/crop.js'
import type { Method } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import type { TextOptions } from '../models/text-batch.js'
import type { Objective } from '../objectives/objective.js'
import type { OptimizerOptions } from '../optim/create-optimizer.js'
import { cosineToMin, cosineWarmup, defaultMomentum } from '../optim/schedule.js'
import type { Parameter, Tensor } from '../tensor.js'

/** What a trainer is asked for; what is absent has the default of R-Adapter's paper. */
export interface TrainerOptions {
  /** what trains, injected into every forward pass */
  method: Method
  /** the loss of a batch */
  objective: Objective
  /** labelled or captioned */
  data: Dataset
  /** passes over the data; the last, smaller batch of each is left out */
  epochs: number
  /** pairs per optimizer step */
  batch: number
  /** micro-batches per step: k × batch/k equals batch, with dropping on */
  accumulate?: number
  /** highest rate; default 5e-4 */
  lr?: number
  /** steps; default a tenth of the run, at most 500 */
  warmup?: number
  /** floor of the rate; default 1e-6 */
  minLr?: number
  /** a cosine to zero that is cut off at minLr (default), or one that ends at minLr */
  schedule?: 'cosine-floor' | 'cosine-to-min'
  /** default AdamW */
  optimizer?: OptimizerOptions
  /** default 0 */
  weightDecay?: number
  /** 0: never */
  clipNorm?: number
  /** running average of the trained parameters: false, true (momentum by length of the run) or a momentum */
  ema?: boolean | number
  /** of every random draw: order, crops, prompts, dropping. Default 0 */
  seed?: number
  /** RandomResizedCrop scale and ratio, flip; `false`: the evaluation transform */
  augment?: TrainCrop | false
  /** what is left out of batches of texts */
  text?: TextOptions
  /**
   * One prompt for each class: every step encodes all of them in place of a text for each image, and the objective is given
   * text [C, P] and the class of each image, [B].
   */
  classTexts?: readonly string[]
  /** added to the objective's loss */
  terms?: readonly StepTerm[]
  /** called with the number of updates done, after each is queued: running means over weights */
  afterStep?: (done: number) => void
  /** what `terms` and `afterStep` change: saved and restored with the optimizer's state */
  extraState?: readonly Parameter[]
  /** A score after each epoch; at the end the parameters (and averages) of the best epoch, the first of equals, are put back. */
  keepBest?: (epoch: number) => Promise<number>
  /** leave out images that cannot be decoded; default as the dataset says */
  skipBroken?: boolean
  /** turn images as their EXIF orientation says; default false */
  exif?: boolean
  /** told of each broken image left out, each time it comes up */
  onSkip?: (error: CambiumError) => void
  /** folder for checkpoints; none are written without it */
  out?: string
  /** steps between checkpoints; default: one an epoch */
  checkpointEvery?: number
}

/** A part of the loss that needs data of its own (reference images, features of a teacher). */
export interface StepTerm {
  /** what must be the same when a run is resumed */
  readonly settings: Readonly<Record<string, unknown>>
  /**
   * Fetches what the step needs, a function of the step and its batch alone: as many tensors at every step, the trainer's to dispose.
   * @param step from 0
   */
  prepare(step: number, batch: Batch): Promise<readonly Tensor[]>
  /**
   * Called inside the step, and on a GPU only while the step is captured: it depends on nothing else that changes from step to step.
   * @param image [B, P] features of the batch before normalisation
   * @param text [B, P] (or [C, P]), likewise
   * @param inputs what `prepare` gave
   * @returns a scalar, [1]
   */
  loss(image: Tensor, text: Tensor, inputs: readonly Tensor[]): Tensor
}

/** WiSE-FT's training crop, used by FLYP and R-Adapter too. */
export const TRAIN_CROP: TrainCrop = { scale: [0.9, 1], ratio: [3 / 4, 4 / 3] }

export interface TrainerPlan {
  readonly stepsPerEpoch: number
  readonly steps: number
  readonly rate: (step: number) => number
  /** EMA momentum, when an average is kept */
  readonly momentum: number | undefined
  /** what the optimizer updates */
  readonly parameters: readonly Parameter[]
  /** what must be the same when the run is resumed */
  readonly settings: Readonly<Record<string, unknown>>
}

/** @throws E_OPTION for numbers out of range and class texts that are not one for each class */
export function planTrainer(clip: Clip, options: TrainerOptions): TrainerPlan {
  const { method, objective, data, epochs, batch, accumulate = 1, lr = 5e-4, minLr = 1e-6, ema = true } = options
  const { weightDecay = 0, clipNorm = 1, seed = 0, optimizer, schedule = 'cosine-floor', classTexts, terms = [] } = options
  positive('epochs', epochs)
  positive('batch', batch)
  positive('accumulate', accumulate)
  if (batch % accumulate !== 0) throw new CambiumError('E_OPTION', `accumulate: expected a divisor of batch ${batch}, got ${accumulate}`)
  requireBatch(data, batch)
  if (typeof ema === 'number' && !(ema >= 0 && ema <= 1))
    throw new CambiumError('E_OPTION', `ema: expected a momentum in [0, 1], got ${ema}`)
  if (classTexts) requireClasses(data, classTexts)
  const stepsPerEpoch = Math.floor(data.length / batch)
  const steps = epochs * stepsPerEpoch
  const warmup = options.warmup ?? Math.min(500, Math.floor(steps / 10))
  const momentum = ema === false ? undefined : ema === true ? defaultMomentum(steps) : ema
  const parameters = [...method.parameters, ...objective.parameters.filter((p) => !method.parameters.includes(p))]
  const cosine = schedule === 'cosine-floor' ? cosineWarmup : cosineToMin
  const settings = {
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
    momentum,
    seed,
    images: data.length,
    data: digestOf(data),
    augment: options.augment ?? TRAIN_CROP,
    text: options.text ?? {},
    dtype: clip.dtype,
    skipBroken: options.skipBroken ?? false,
    exif: options.exif ?? false,
    trainable: parameters.length,
    ...given('schedule', schedule === 'cosine-floor' ? undefined : schedule),
    ...given('classTexts', classTexts),
    ...given('keepBest', options.keepBest ? true : undefined),
    ...(optimizer ? prefixed('optimizer', { ...optimizer, anchor: optimizer.anchor?.pull }) : {}),
    ...Object.assign({}, ...terms.map((term, i) => prefixed(`term ${i}`, term.settings))),
  }
  return { stepsPerEpoch, steps, rate: cosine({ lr, steps, warmup, minLr: Math.min(minLr, lr) }), momentum, parameters, settings }
}

/** @throws E_OPTION for a batch that no step could have */
export function requireBatch({ length }: Pick<Dataset, 'length'>, batch: number): void {
  if (length < batch) throw new CambiumError('E_OPTION', `batch: expected at most the ${length} images of the training set, got ${batch}`)
}

function positive(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) throw new CambiumError('E_OPTION', `${name}: expected a positive integer, got ${value}`)
}

function requireClasses(data: Dataset, classTexts: readonly string[]): void {
  if (!data.labelled) throw new CambiumError('E_OPTION', 'classTexts: expected a labelled set, got images without classes')
  if (classTexts.length !== data.classNames.length)
    throw new CambiumError('E_OPTION', `classTexts: expected one for each of ${data.classNames.length} classes, got ${classTexts.length}`)
}

const given = (key: string, value: unknown) => (value === undefined ? {} : { [key]: value })

const prefixed = (prefix: string, settings: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(settings).map(([key, value]) => [`${prefix}.${key}`, value]))
