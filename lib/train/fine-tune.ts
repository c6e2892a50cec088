/**
 * Fine-tuning from paths to a report, as the command line does it: open the model and the sets, refuse what cannot fit, train,
 * choose α on validation, save, and compare with the model as it was. Test and out-of-distribution sets choose nothing.
 */
import { join } from 'node:path'
import { saveAdapter } from '../checkpoint/adapter-file.js'
import { saveLora } from '../checkpoint/lora-file.js'
import { merge } from '../checkpoint/merge.js'
import { mergeLora } from '../checkpoint/merge-lora.js'
import type { CambiumError } from '../errors.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { holdFolder } from '../formats/hold-folder.js'
import { Lora } from '../methods/lora.js'
import { RAdapter } from '../methods/r-adapter.js'
import { Clip } from '../models/clip.js'
import type { SaveOptions } from '../models/save-clip.js'
import { type FloatDType, native } from '../native.js'
import { type Environment, environment } from './environment.js'
import type { TrainingEstimate } from './estimate.js'
import { type Evaluation, type EvaluationProgress, type EvaluationSet, type Predictions, scoreOf } from './evaluate.js'
import type { EndEvent, TrainEvent } from './events.js'
import { DecodedImages } from './features.js'
import { type FineTuneData, type FineTuneDataOptions, type FineTuneSet, openFineTuneData } from './fine-tune-data.js'
import { createMethod, defaultAlpha, type MethodOptions, methodDefaults, type TrainedMethod } from './fine-tune-method.js'
import { planRun, refuseOverwrite } from './plan.js'
import { PredictionRecord } from './prediction-file.js'
import { RunLog } from './run-log.js'
import { type Choice, chooseAlphaOn, evaluateAlphas, type SweepPoint } from './sweep.js'
import { Trainer, type TrainerOptions } from './train.js'

/** Passed on to the trainer as they are; what is absent takes the default of the method. */
type TrainerSettings = Partial<
  Pick<
    TrainerOptions,
    'epochs' | 'batch' | 'accumulate' | 'lr' | 'warmup' | 'minLr' | 'weightDecay' | 'clipNorm' | 'ema' | 'checkpointEvery'
  >
>

/** Enough points to see how what is learned is paid for. */
const DEFAULT_CURVE: readonly number[] = [0, 0.25, 0.5, 0.75, 1]

/** `epochs` is 10 and `batch` 64 by default, or all images where there are fewer. */
export interface FineTuneOptions extends FineTuneDataOptions, MethodOptions, TrainerSettings {
  /** Folder of the pretrained CLIP. */
  model: string
  /** Folder for checkpoints, the adapter or the fine-tuned model, the merged model and report.json. */
  out: string
  /** α of the merged model; default: chosen on validation; without, the paper's 0.5 for classes and 0.8 for captions, 1 for LoRA. */
  alpha?: number
  /** The α that are tried on validation. Default 0, 0.1, …, 1. */
  alphas?: readonly number[]
  /** The α at which every set is measured, for the record: none of it is chosen by. Default 0, 0.25, 0.5, 0.75, 1; always 0, α and 1. */
  curve?: readonly number[]
  dtype?: FloatDType
  /** Type of the merged checkpoint. Default that of the file it came from. */
  saveDtype?: SaveOptions['dtype']
  imageSize?: number
  /** Only the inputs of blocks are kept for backward, which runs them again: less memory, about two fifths more time, the same result. */
  activationCheckpointing?: boolean
  dedupe?: boolean
  cut?: boolean
  /** Bytes; a run that is estimated to need more is refused. Default: what is free. */
  memoryBudget?: number
  evaluationBatch?: number
  resume?: boolean
  signal?: AbortSignal
  onEvent?: (event: FineTuneEvent) => void
}

export type FineTuneEvent =
  | TrainEvent
  | {
      readonly type: 'plan'
      readonly images: number
      readonly validation: number
      readonly estimate: TrainingEstimate
      readonly seconds: number
    }
  | ({ readonly type: 'evaluate'; readonly alpha: number } & EvaluationProgress)
  | { readonly type: 'alpha'; readonly alpha: number; readonly choice?: Choice }
  | { readonly type: 'saved'; readonly what: 'adapter' | 'fine-tuned' | 'merged' | 'report'; readonly folder: string }

export interface FineTuneReport {
  readonly model: string
  readonly method: string
  readonly dtype: FloatDType
  readonly level: string
  readonly threads: number
  readonly environment: Environment
  readonly images: { readonly train: number; readonly validation: number }
  readonly trainable: number
  readonly seconds: number
  readonly peakBytes: number
  readonly estimatedBytes: number
  /** False when the run was stopped; it can be resumed and there is nothing else here. */
  readonly done: boolean
  readonly steps: number
  /** Broken images left out in training, each time they came up. */
  readonly skipped: number
  readonly alpha?: { readonly value: number; readonly by: 'validation' | 'option' | 'default'; readonly tried?: Choice['tried'] }
  /** Zero-shot (α = 0), the α of the merged model, and α = 1, over every set given. */
  readonly results: readonly { readonly name: string; readonly alpha: number; readonly evaluation: Evaluation }[]
  /** What each set of `results` is to the run. */
  readonly sets: Readonly<Record<string, { readonly role: FineTuneSet['role']; readonly images: number; readonly classes: number }>>
  /** The one number of each set (top-1, or the mean of both ways' R@1) at each α that was measured. */
  readonly curve: readonly { readonly alpha: number; readonly scores: Readonly<Record<string, number>> }[]
  /** Folders written. */
  readonly files: Readonly<Record<string, string>>
}

/**
 * @throws E_MEMORY, E_OUT for a folder that holds another run or that another process writes, E_DATA and the errors of files; the signal's reason when aborted
 * after training
 */
export async function fineTune(given: FineTuneOptions): Promise<FineTuneReport> {
  await refuseOverwrite(given.out, given.resume ?? false)
  const { budget } = native.memory()
  const { dtype, imageSize, activationCheckpointing } = given
  const clip = await Clip.load(given.model, { dtype, imageSize, checkpoint: activationCheckpointing ? 'blocks' : 'none' })
  try {
    const data = await openFineTuneData(given)
    const options = { ...given, batch: given.batch ?? defaultBatch(data.train.length, given.accumulate) }
    const { estimate, seconds } = await planRun(clip, data, { ...methodDefaults(options), ...options })
    options.onEvent?.({ type: 'plan', images: data.train.length, validation: data.validation?.data.length ?? 0, estimate, seconds })
    const trained = await createMethod(clip, { ...options, epsilon: options.epsilon ?? (data.train.labelled ? undefined : 0) })
    try {
      const release = await holdFolder(options.out)
      return await run(clip, data, trained, options, estimate).finally(release)
    } finally {
      trained.dispose()
    }
  } finally {
    clip.dispose()
    native.setMemoryBudget(budget)
  }
}

/** 64, or what a small set has; cut so that it has `accumulate` equal parts. */
function defaultBatch(images: number, accumulate = 1): number {
  const most = Math.min(64, images)
  return most - (most % accumulate) || most
}

async function run(
  clip: Clip,
  data: FineTuneData,
  trained: TrainedMethod,
  options: FineTuneOptions & { readonly batch: number },
  estimate: TrainingEstimate,
): Promise<FineTuneReport> {
  const log = new RunLog(options.out)
  const trainer = createTrainer(clip, data, trained, options, log)
  try {
    const end = await train(trainer, options, log)
    const { level, threads } = native.backendInfo()
    const report: FineTuneReport = {
      model: options.model,
      method: options.method,
      dtype: clip.dtype,
      level,
      threads,
      environment: environment(),
      images: { train: data.train.length, validation: data.validation?.data.length ?? 0 },
      trainable: estimate.trainable,
      seconds: end.seconds,
      peakBytes: end.peakBytes,
      estimatedBytes: estimate.memory.total,
      done: end.reason === 'done',
      steps: end.step,
      skipped: end.skipped,
      results: [],
      sets: Object.fromEntries(
        setsOf(data).map(({ name, role, data: { length, classNames } }) => [name, { role, images: length, classes: classNames.length }]),
      ),
      curve: [],
      files: {},
    }
    if (!report.done) return report
    const finished = { ...report, ...(await finish(clip, data, trained, trainer, options, log)) }
    await writeFileAtomic(join(options.out, 'report.json'), `${JSON.stringify(finished, null, 2)}\n`)
    options.onEvent?.({ type: 'saved', what: 'report', folder: join(options.out, 'report.json') })
    return finished
  } finally {
    trainer.dispose()
    await log.close()
  }
}

const setsOf = ({ validation, tests }: FineTuneData): FineTuneSet[] => [...(validation ? [validation] : []), ...tests]

function createTrainer(
  clip: Clip,
  data: FineTuneData,
  { method, objective }: TrainedMethod,
  options: FineTuneOptions & { readonly batch: number },
  log: RunLog,
): Trainer {
  const { epochs = 10, batch, dedupe, cut, accumulate, warmup, minLr, clipNorm, seed, skipBroken, exif, checkpointEvery } = options
  const { lr, weightDecay, ema } = {
    ...methodDefaults(options),
    ...definedOf({ lr: options.lr, weightDecay: options.weightDecay, ema: options.ema }),
  }
  const rest = { accumulate, warmup, minLr, clipNorm, seed, skipBroken, exif, checkpointEvery }
  return new Trainer(clip, {
    method,
    objective,
    data: data.train,
    epochs,
    batch,
    lr,
    weightDecay,
    ema,
    text: { dedupe, cut },
    out: options.out,
    onSkip: (error) => log.skip(error),
    ...rest,
  })
}

async function train(trainer: Trainer, { signal, resume, onEvent }: FineTuneOptions, log: RunLog): Promise<EndEvent & { skipped: number }> {
  let last: TrainEvent | undefined
  let skipped = 0
  for await (const event of trainer.run({ signal, resume })) {
    await log.write(event)
    onEvent?.(event)
    if (event.type === 'step') skipped = event.skipped
    last = event
  }
  return { ...(last as EndEvent), skipped } // an end is the last event of every run that did not throw
}

/** α, files and the comparison, after training. */
async function finish(
  clip: Clip,
  data: FineTuneData,
  trained: TrainedMethod,
  trainer: Trainer,
  options: FineTuneOptions,
  log: RunLog,
): Promise<Pick<FineTuneReport, 'alpha' | 'results' | 'curve' | 'files'>> {
  const { signal, onEvent, evaluationBatch: batch, exif } = options
  let at = 0
  const evaluation = {
    signal,
    batch,
    exif,
    averages: trainer.averages,
    decoded: new DecodedImages(),
    onAlpha: (alpha: number) => {
      at = alpha
    },
    onSkip: (error: CambiumError) => log.skip(error),
    onProgress: (progress: EvaluationProgress) => onEvent?.({ type: 'evaluate', alpha: at, ...progress }),
  }
  const choice =
    options.alpha === undefined && data.validation
      ? await chooseAlphaOn(clip, trained.method, data.validation, { ...evaluation, alphas: options.alphas })
      : undefined
  const value = options.alpha ?? choice?.alpha ?? defaultAlpha(options, data.train.labelled)
  onEvent?.({ type: 'alpha', alpha: value, choice })
  const files = await save(clip, trained, trainer, options, value)
  const shown = new Set([0, value, 1])
  const curve = options.curve ?? (data.tests.length === 0 ? [] : DEFAULT_CURVE)
  const alphas = [...new Set([...shown, ...curve])].sort((a, b) => a - b)
  const predictions = new PredictionRecord()
  const onPredictions = (set: EvaluationSet, made: Predictions) => shown.has(at) && predictions.add(set, at, made)
  const sets = setsOf(data)
  const points = sets.length === 0 ? [] : await evaluateAlphas(clip, trained.method, alphas, sets, { ...evaluation, onPredictions })
  const scores = points.map(({ alpha, evaluation }) => ({ alpha, scores: scoresOf(evaluation) }))
  for (const [step, alpha] of points.length === 0
    ? []
    : [
        [0, 0],
        [trainer.steps, value],
      ])
    await log.write({ type: 'evaluated', step, ...scores.find((point) => point.alpha === alpha)! })
  await predictions.write(options.out)
  const by = options.alpha !== undefined ? 'option' : choice ? 'validation' : 'default'
  return {
    alpha: { value, by, ...(choice ? { tried: choice.tried } : {}) },
    results: points.filter(({ alpha }) => shown.has(alpha)).map((point) => named(point, options)),
    curve: scores,
    files,
  }
}

const scoresOf = (evaluation: Evaluation): Record<string, number> =>
  Object.fromEntries(Object.entries(evaluation).map(([name, result]) => [name, scoreOf(result)]))

function named({ alpha, evaluation }: SweepPoint, { method }: FineTuneOptions): FineTuneReport['results'][number] {
  const full = method === 'full' ? 'full fine-tuning' : 'FLYP'
  const adapter = method === 'r-adapter' ? 'R-Adapter' : method === 'lora' ? 'LoRA' : undefined
  const name = alpha === 0 ? 'zero-shot' : (adapter ?? (alpha === 1 ? full : `${full} + WiSE-FT`))
  return { name, alpha, evaluation }
}

/** The adapter, or the fine-tuned model; and the merged model at α. */
async function save(
  clip: Clip,
  { method }: TrainedMethod,
  trainer: Trainer,
  options: FineTuneOptions,
  alpha: number,
): Promise<Record<string, string>> {
  const { out, saveDtype: dtype, signal, onEvent } = options
  const { averages } = trainer
  const told = (what: 'adapter' | 'fine-tuned' | 'merged') => {
    onEvent?.({ type: 'saved', what, folder: join(out, what) })
    return join(out, what)
  }
  if (method instanceof RAdapter || method instanceof Lora) {
    const lora = method instanceof Lora
    if (lora) await saveLora(method, join(out, 'adapter'), { averages, signal })
    else await saveAdapter(method, join(out, 'adapter'), averages, { alpha })
    const options = { alpha, averages, signal }
    const merged = await (lora ? mergeLora(clip, method, options) : merge(clip, method, options))
    try {
      await merged.save(join(out, 'merged'), { dtype, signal })
    } finally {
      merged.dispose()
    }
    return { adapter: told('adapter'), merged: told('merged') }
  }
  for (const [what, at] of [
    ['fine-tuned', 1],
    ['merged', alpha],
  ] as const) {
    const view = await method.at(at, averages)
    try {
      await clip.save(join(out, what), { dtype, signal })
    } finally {
      await view.dispose()
    }
  }
  return { 'fine-tuned': told('fine-tuned'), merged: told('merged') }
}

function definedOf<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
}
