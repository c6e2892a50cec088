// What the settings of continual methods have in common, as a tasks file gives them.
import { z } from 'zod'
import type { Dataset } from '../data/dataset.js'
import { classPrompts } from '../data/prompts.js'
import { DEFAULT_TEMPLATES, type EncodeProgress } from '../train/features.js'
import type { ClassPrompts, TaskTraining } from './learner.js'

/** What the loop tells a method besides its settings. */
export interface LearnerContext {
  /** of every random draw */
  readonly seed: number
  /** told of decisions that a person may want to know the reason of */
  readonly note?: (text: string) => void
  /** told while something is encoded before the first task, such as what a teacher is asked about */
  readonly onProgress?: (what: string, progress: EncodeProgress) => void
  readonly signal?: AbortSignal
  /** it will be asked and never learn: what only training needs is not opened */
  readonly askOnly?: boolean
}

const count = z.number().int().min(0)
const positive = z.number().int().positive()

/** Settings of training; spread into the `z.strictObject` of a method that trains. What is absent takes the method's default. */
export const trainingShape = {
  epochs: positive.optional(),
  /** at most the images of a task */
  batch: positive.optional(),
  accumulate: positive.optional(),
  lr: z.number().positive().optional(),
  minLr: z.number().min(0).optional(),
  warmup: count.optional(),
  schedule: z.enum(['cosine-floor', 'cosine-to-min']).optional(),
  weightDecay: z.number().min(0).optional(),
  clipNorm: z.number().min(0).optional(),
  augment: z.literal(false).optional(),
  keepBest: z.boolean().optional(),
} as const

export type TrainingSettings = z.infer<z.ZodObject<typeof trainingShape>>

/** The trainer's part of a method's settings over its defaults. */
export function trainingOptions(settings: TrainingSettings, defaults: TaskTraining['options'] = {}): TaskTraining['options'] {
  const own = Object.entries(settings).filter(([key, value]) => key in trainingShape && key !== 'keepBest' && value !== undefined)
  return { ...defaults, ...Object.fromEntries(own) }
}

/** The classes of a set as they are said: its templates, or CLIP's usual one. */
export function promptsOf({ classNames, templates }: Pick<Dataset, 'classNames' | 'templates'>): ClassPrompts[] {
  const prompts = classPrompts(classNames, templates.length === 0 ? DEFAULT_TEMPLATES : templates)
  return classNames.map((name, c) => ({ name, prompts: prompts[c] }))
}
