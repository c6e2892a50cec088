/** What fine-tuning from paths is asked for, what it tells on the way, and its report, `report.json` of the run's folder. */
import type { SaveOptions } from '../models/save-clip.js'
import type { FloatDType } from '../native.js'
import type { Environment } from './environment.js'
import type { TrainingEstimate } from './estimate.js'
import type { Evaluation, EvaluationProgress } from './evaluate.js'
import type { TrainEvent } from './events.js'
import type { FineTuneDataOptions, FineTuneSet } from './fine-tune-data.js'
import type { MethodOptions } from './fine-tune-method.js'
import type { Choice } from './sweep.js'
import type { TrainerOptions } from './trainer-options.js'

/** Passed on to the trainer as they are; what is absent takes the default of the method. */
type TrainerSettings = Partial<
  Pick<
    TrainerOptions,
    'epochs' | 'batch' | 'accumulate' | 'lr' | 'warmup' | 'minLr' | 'weightDecay' | 'clipNorm' | 'ema' | 'checkpointEvery'
  >
>

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
  /** Operands of products; default bf16 where the device multiplies it natively, else f32. */
  dtype?: FloatDType
  /** Type of the merged checkpoint. Default that of the file it came from. */
  saveDtype?: SaveOptions['dtype']
  /** Another image side than the checkpoint's: position embeddings are interpolated. */
  imageSize?: number
  /** Only the inputs of blocks are kept for backward, which runs them again: less memory, about two fifths more time, the same result. */
  activationCheckpointing?: boolean
  /** Encode equal texts of a batch once (default true; exact). */
  dedupe?: boolean
  /** Cut texts after their end token (default true; exact). */
  cut?: boolean
  /** Bytes; a run that is estimated to need more is refused. Default: what is free. */
  memoryBudget?: number
  /** Images or texts encoded at once. Default 64. Changes no result. */
  evaluationBatch?: number
  /** Go on with the run that `out` holds. */
  resume?: boolean
  /** Stops after the step at hand, with a checkpoint. After training its reason is thrown, and no file is left half written. */
  signal?: AbortSignal
  /** told of the plan, every step, what is evaluated and what is saved */
  onEvent?: (event: FineTuneEvent) => void
}

/** What {@link fineTune} tells on its way: plain objects. */
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

/** `report.json`: what was trained, what it took and what it is worth. Memory in bytes; scores are fractions in [0, 1]. */
export interface FineTuneReport {
  readonly model: string
  readonly method: string
  readonly dtype: FloatDType
  /** CPU level that computed. */
  readonly level: string
  readonly threads: number
  readonly environment: Environment
  readonly images: { readonly train: number; readonly validation: number }
  /** Numbers that trained. */
  readonly trainable: number
  /** Of training. */
  readonly seconds: number
  /** The core's largest use of memory in training, and what was estimated. */
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
