/**
 * Evaluation: zero-shot classification with template ensembles (Radford et al. 2021) and retrieval, over any number of sets,
 * for a model as it is or with an injection. Results are plain JSON; fractions are in [0, 1].
 */
import type { Dataset } from '../data/dataset.js'
import { CambiumError } from '../errors.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { classHead, DEFAULT_TEMPLATES, type EncodeOptions, type EncodeProgress, encodeImages, similarities } from './features.js'
import { argmax, ClassificationCounter, type ClassificationResult } from './metrics.js'
import { type RetrievalResult, retrieve } from './retrieval.js'

/** A set under the name that its result has. */
export interface EvaluationSet {
  readonly name: string
  readonly data: Dataset
  /** Default: classification where every image has a class, else retrieval. */
  readonly task?: 'classification' | 'retrieval'
}

/** Prompts, how images are read, and who is told. */
export interface EvaluateOptions extends Omit<EncodeOptions, 'onProgress'> {
  /** Prompts for every set; default those of the set, else `a photo of a {}.` */
  templates?: readonly string[]
  /** Told after each batch; the count starts anew for each set and for its texts. */
  onProgress?: (progress: EvaluationProgress) => void
  /** Told what was predicted for each image of a set. */
  onPredictions?: (set: EvaluationSet, predictions: Predictions) => void
}

/** Of a set's images that could be read, in the order of the set. */
export interface Predictions {
  readonly task: 'classification' | 'retrieval'
  /** [N], index in the set of each image. */
  readonly samples: Int32Array
  /** [N], the predicted class of each; in retrieval the rank of the best of its own captions, from 1. */
  readonly values: Int32Array
}

export interface EvaluationProgress extends EncodeProgress {
  readonly set: string
}

export interface ClassificationEvaluation extends ClassificationResult {
  readonly task: 'classification'
  /** Broken images left out. */
  readonly skipped: number
}

export interface RetrievalEvaluation extends RetrievalResult {
  readonly task: 'retrieval'
}

/** By the name of the set. */
export type Evaluation = Readonly<Record<string, ClassificationEvaluation | RetrievalEvaluation>>

/** Evaluates a model, with an injection if one is given, over sets. @throws E_DATA, E_OPTION for two sets of one name */
export async function evaluate(
  clip: Clip,
  sets: readonly EvaluationSet[],
  options: EvaluateOptions & { injection?: Injection } = {},
): Promise<Evaluation> {
  requireNames(sets)
  const evaluation: Record<string, ClassificationEvaluation | RetrievalEvaluation> = {}
  for (const set of sets) {
    const onProgress = (progress: EncodeProgress) => options.onProgress?.({ set: set.name, ...progress })
    const task = taskOf(set)
    const onValues = (samples: Int32Array, values: Int32Array) => options.onPredictions?.(set, { task, samples, values })
    if (task === 'classification') evaluation[set.name] = await classify(clip, set.data, onValues, { ...options, onProgress })
    else evaluation[set.name] = { task, ...(await retrieve(clip, set.data, { ...options, onProgress, onRanks: onValues })) }
  }
  return evaluation
}

/** The one number of a result: top-1, or the mean of both ways' R@1. */
export function scoreOf(result: ClassificationEvaluation | RetrievalEvaluation): number {
  return result.task === 'classification' ? result.top1 : (result.imageToText.r1 + result.textToImage.r1) / 2
}

function taskOf({ task, data }: EvaluationSet): 'classification' | 'retrieval' {
  return task ?? (data.labelled ? 'classification' : 'retrieval')
}

function requireNames(sets: readonly EvaluationSet[]): void {
  const seen = new Set<string>()
  for (const { name } of sets) {
    if (seen.has(name)) throw new CambiumError('E_OPTION', `sets: expected a name for each set, got ${JSON.stringify(name)} twice`)
    seen.add(name)
  }
}

async function classify(
  clip: Clip,
  data: Dataset,
  onValues: (samples: Int32Array, predicted: Int32Array) => void,
  options: EncodeOptions & { templates?: readonly string[]; injection?: Injection },
): Promise<ClassificationEvaluation> {
  const labels = data.labels()
  const { injection } = options
  const templates = options.templates ?? (data.templates.length > 0 ? data.templates : DEFAULT_TEMPLATES)
  const { values, samples, skipped } = await encodeImages(clip, data, injection, options)
  const head = await classHead(clip, data.classNames, templates, injection, options)
  const classes = data.classNames.length
  const counter = new ClassificationCounter(data.classNames)
  const predicted = new Int32Array(samples.length)
  const visit = (scores: Float32Array, first: number, rows: number) => {
    counter.add(
      scores,
      samples.subarray(first, first + rows).map((sample) => labels[sample]),
    )
    for (let row = 0; row < rows; row++) predicted[first + row] = argmax(scores, row * classes, classes)
  }
  await similarities(values, head, clip.config.projectionDim, visit, options)
  onValues(samples, predicted)
  return { task: 'classification', ...counter.result(), skipped }
}
