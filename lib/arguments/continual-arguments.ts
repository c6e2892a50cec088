/** Arguments of continual learning and its statistics. */
import { z } from 'zod'
import type { AskOptions, ClassifyLearnedOptions } from '../continual/ask-learned.js'
import type { ContinueLearnOptions } from '../continual/continue-learn.js'
import type { SelectorOptions } from '../continual/gaussian-selector.js'
import type { LearnOptions } from '../continual/learn.js'
import type { LearnerContext } from '../continual/learner-options.js'
import type { LearnMethod, RunLearnOptions, RunSettings } from '../continual/run-learn.js'
import type { DensityOptions } from '../continual/task-density.js'
import { streamShape } from '../continual/task-spec.js'
import type { OpenTasksOptions } from '../continual/tasks.js'
import type { TextBankOptions } from '../continual/text-bank.js'
import type { GaussianOptions } from '../statistics/gaussian.js'
import { optional, type Signatures } from './guard.js'
import * as k from './kinds.js'

const { callback, clip, count, dataset, flag, number, numbers, path, signal, text, texts, whole } = k
const stream = z.strictObject(streamShape)
const asking = { batch: count, exif: flag, concurrency: count, signal }
export const classPrompts = z.strictObject({ name: text, prompts: texts })
const shrinkage = z.union([number, z.enum(['auto', 'none', 'ledoit-wolf'])])
const density = k.kind(
  'a density, as fitDensity gives one',
  ({ gaussian, calibration }) => gaussian !== undefined && calibration !== undefined,
)
const matrix = k.kind('a matrix, as accuracyMatrix gives one', ({ rows, images }) => Array.isArray(rows) && Array.isArray(images))
const report = k.kind('a report, as learn gives one', ({ sets, stages }) => Array.isArray(sets) && Array.isArray(stages))

const settings = {
  checkpointEvery: z.union([z.literal(false), count]),
  evaluationBatch: count,
  memoryBudget: number,
  skipBroken: flag,
  exif: flag,
  onSkip: callback,
  signal,
  dtype: k.dtype,
  imageSize: count,
  saveModel: flag,
  onEvent: callback,
} satisfies { [K in keyof Required<RunSettings>]: z.ZodType }
const { dtype: _, imageSize: __, saveModel: ___, onEvent: ____, ...learning } = settings

export const CONTINUAL_ARGUMENTS = {
  learn: {
    clip,
    options: k.optionsOf<LearnOptions>(
      { ...learning, stream: k.taskStream, learner: k.learner, out: path, label: text, options: k.map, seed: number, onProgress: callback },
      ...(['stream', 'learner', 'out'] as const),
    ),
  },
  runLearn: {
    options: k.optionsOf<RunLearnOptions>(
      {
        ...settings,
        model: path,
        out: path,
        apart: flag,
        stream,
        methods: k.listOf(k.optionsOf<LearnMethod>({ label: text, method: text, settings: k.map }, 'label', 'method')),
        over: k.map,
        seeds: numbers,
      },
      ...(['model', 'out', 'stream', 'methods'] as const),
    ),
  },
  continueLearn: {
    options: k.optionsOf<ContinueLearnOptions>({ ...settings, out: path, stream, model: path }, 'out', 'stream'),
  },
  openTasks: { stream, options: optional(k.optionsOf<OpenTasksOptions>({ seed: number, skipBroken: flag })) },
  streamTask: {
    options: k.optionsOf<{ name: string; train: unknown; validation?: unknown; test?: unknown }>(
      { name: text, train: dataset, validation: dataset, test: dataset },
      'name',
      'train',
    ),
  },
  createLearner: {
    clip,
    name: text,
    settings: k.map,
    options: k.optionsOf<LearnerContext>({ seed: number, note: callback, onProgress: callback, signal, askOnly: flag }, 'seed'),
  },
  promptsOf: {
    set: k.kind('a Dataset, or {classNames, templates}', (set) => Array.isArray(set.classNames) && Array.isArray(set.templates)),
  },
  openLearned: { folder: path, options: optional(k.optionsOf<{ dtype?: unknown; model?: string }>({ dtype: k.dtype, model: path })) },
  classesOf: { learned: k.learned, name: optional(text) },
  classifyLearned: {
    learned: k.learned,
    items: k.iterable,
    options: optional(k.optionsOf<ClassifyLearnedOptions>({ ...asking, classes: k.listOf(classPrompts), top: number })),
  },
  encodeLearned: {
    learned: k.learned,
    items: k.iterable,
    options: optional(k.optionsOf<AskOptions & { normalize?: boolean }>({ ...asking, normalize: flag })),
  },
  selectTasks: {
    features: k.floats,
    tasks: k.listOf(density).min(1),
    options: optional(
      k.optionsOf<SelectorOptions>({ vote: z.enum(['sample', 'batch']), textWeight: z.enum(['sample', 'batch-mean']), voteBatch: number }),
    ),
  },
  fitDensity: {
    rows: k.floats,
    dimension: count,
    ids: texts,
    options: k.optionsOf<DensityOptions>(
      { shrinkage, ridge: number, calibration: z.enum(['auto', 'paper', 'fitted']), typical: number, quantile: number },
      ...(['shrinkage', 'calibration', 'typical', 'quantile'] as const),
    ),
    note: callback,
  },
  'new TextBank': { clip, view: callback, options: optional(k.optionsOf<TextBankOptions>({ cells: number, budget: number })) },
  accuracyMatrix: { report, space: optional(z.enum(['own', 'union'])) },
  learnMetrics: { matrix, among: optional(k.listOf(whole)) },
  aboveChance: { report },
  writeLearnReport: { folder: path, runs: k.listOf(report), out: optional(path) },
  weightOf: { density: number, dimension: count, calibration: z.looseObject({ slope: number, offset: number }) },
  'new Moments': { dimension: count },
  'Gaussian.fit': { moments: k.moments, options: optional(k.optionsOf<GaussianOptions>({ shrinkage, ridge: number })) },
  'Gaussian.of': {
    estimate: z.looseObject({ count: number, method: text, intensity: number, ridge: number }),
    mean: k.doubles,
    covariance: k.doubles,
  },
} satisfies Signatures
