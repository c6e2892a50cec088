// What a task will take, told before it starts: training, and what its method holds beside it (teachers, snapshots, statistics).
import type { Dataset } from '../data/dataset.js'
import { fillTemplate } from '../data/prompts.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { availableMemory, type BesideLoad, requireMemory, type TrainingEstimate, type TrainingShape } from '../train/estimate.js'
import type { DecodedImages } from '../train/features.js'
import { STEP_EFFICIENCY } from '../train/plan.js'
import type { TrainerOptions } from '../train/train.js'
import type { TaskStream } from './tasks.js'

export interface TaskEstimate {
  /** the process's largest use of memory */
  readonly bytes: number
  readonly memory: TrainingEstimate['memory']
  /** floating-point operations of all steps */
  readonly flops: number
}

/**
 * @param beside what the method and the loop take that the trainer knows nothing of
 * @param memoryBudget bytes; default what is free
 * @throws E_MEMORY when the task cannot fit, with what would
 */
export function planTask(clip: Clip, options: TrainerOptions, beside: BesideLoad = {}, memoryBudget?: number): TaskEstimate {
  const { method, data, epochs, batch, accumulate, classTexts, ema } = options
  const parameters = method.parameters.reduce((sum, { count }) => sum + count, 0)
  const texts = classTexts ?? data.templates.flatMap((template) => data.classNames.map((name) => fillTemplate(template, name)))
  const shape: TrainingShape = {
    config: clip.config,
    // few parameters beside frozen weights: nothing else is kept of the blocks than what their frozen products need
    ...(method.name === 'full'
      ? { method: 'full' }
      : { method: 'lora', lora: { vision: { parameters, kept: 0 }, text: { parameters: 0, kept: 0 } } }),
    batch,
    accumulate,
    dtype: clip.dtype,
    textTokens: Math.max(...clip.tokenize(texts.length > 0 ? texts : data.classNames).map((ids) => ids.length)),
    texts: data.captioned ? undefined : new Set(texts).size, // equal prompts of a batch are encoded once
    classTexts: classTexts?.length,
    ema: ema !== false,
    attended: native.backendInfo().device !== 'cpu',
    beside,
  }
  const limit = memoryBudget ?? availableMemory() + process.memoryUsage().rss // what the process has already is part of the estimate
  const { memory, flopsPerStep } = requireMemory(shape, limit, memoryBudget === undefined ? 'available memory' : 'memory budget')
  return { bytes: memory.total, memory, flops: epochs * Math.floor(data.length / batch) * flopsPerStep }
}

/** Decoded images that the trainer keeps; see data/batches.ts. */
const TRAINER_DECODED_BYTES = 256e6

/** Bytes of the decoded images that are kept while a task trains: of all sets looked at so far, and in the trainer those of the task. */
export function decodedBytes({ tasks, watch }: TaskStream, train: Dataset, decoded: DecodedImages): number {
  const sets = [...tasks.flatMap((task) => [task.train, task.validation, task.test]), ...watch.map(({ data }) => data)]
  const seen = sets.flatMap((set) => (set && decoded.of(set).bytes > 0 ? { bytes: decoded.of(set).bytes, images: set.length } : []))
  const total = (what: 'bytes' | 'images') => seen.reduce((sum, set) => sum + set[what], 0)
  const own = Math.min(TRAINER_DECODED_BYTES, seen.length === 0 ? 0 : (train.length * total('bytes')) / total('images'))
  return total('bytes') + own
}

/** Seconds of that many operations, at the rate of this machine. @param rate of a plain product, operations a second */
export const secondsOf = (flops: number, rate: number): number => flops / (STEP_EFFICIENCY * rate)
