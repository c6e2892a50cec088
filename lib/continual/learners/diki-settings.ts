// What a tasks file may set of DIKI. The defaults are the recipe of the paper's code; small models want another rate.
import { z } from 'zod'
import type { TaskTraining } from '../learner.js'
import { type TrainingSettings, trainingOptions, trainingShape } from '../learner-options.js'

const positive = z.number().int().positive()
const share = z.number().gt(0).lt(1)

export const dikiSettings = z.strictObject({
  ...trainingShape,
  depth: positive.default(8),
  length: positive.default(8),
  towers: z
    .array(z.enum(['vision', 'text']))
    .min(1)
    .default(['vision', 'text']),
  /** a task's parameters are its own, so that the state of any optimizer leaves other tasks as they are */
  optimizer: z.enum(['sgd', 'adamw']).default('sgd'),
  /** of SGD */
  momentum: z.number().min(0).lt(1).default(0),
  /** of the tasks' covariances; see statistics/gaussian.ts */
  shrinkage: z.union([z.enum(['auto', 'none', 'ledoit-wolf']), z.number().min(0).max(1)]).default('auto'),
  ridge: z.number().min(0).optional(),
  /** 'auto': the paper's where its numbers hold (512 dimensions or more, nothing shrunk), else fitted; see statistics/calibration.ts */
  calibration: z.enum(['auto', 'paper', 'fitted']).default('auto'),
  typical: share.default(0.8),
  quantile: share.default(0.3),
  /** the authors' code: 'batch', 'batch-mean'; see gaussian-selector.ts */
  vote: z.enum(['sample', 'batch']).default('sample'),
  textWeight: z.enum(['sample', 'batch-mean']).default('sample'),
  voteBatch: positive.default(256),
  /** of the grid of text weights; see text-bank.ts */
  cells: z.number().int().min(3).default(16),
})

export type DikiSettings = z.infer<typeof dikiSettings>

/** SGD (AdamW by choice), rate 5 by a cosine to a thousandth, 10 epochs of batches of 128, no augmentation, the best epoch on validation. */
export function dikiTraining(
  settings: DikiSettings & TrainingSettings,
  images: number,
  classTexts: readonly string[],
): TaskTraining['options'] {
  const { optimizer, momentum, batch = 128 } = settings
  const lr = settings.lr ?? (optimizer === 'sgd' ? 5 : 1e-2)
  return {
    ...trainingOptions(settings, {
      lr,
      minLr: lr * 1e-3,
      warmup: 0,
      schedule: 'cosine-to-min',
      epochs: 10,
      weightDecay: 0,
      clipNorm: 0,
      ema: false,
      augment: false,
    }),
    batch: Math.min(batch, images),
    optimizer: optimizer === 'sgd' ? { name: optimizer, momentum } : { name: optimizer },
    classTexts,
  }
}
