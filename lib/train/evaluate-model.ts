/** Evaluation from paths to results, as the command line does it: a model, or a model with an adapter at one α or at many. */
import { openAdapter } from '../adapters/open-adapter.js'
import type { ClassNames } from '../data/class-names.js'
import { openDataset } from '../data/open-dataset.js'
import { CambiumError } from '../errors.js'
import { Clip } from '../models/clip.js'
import { type FloatDType, native } from '../native.js'
import { type Evaluation, type EvaluationProgress, type EvaluationSet, evaluate } from './evaluate.js'
import { DecodedImages } from './features.js'
import type { NamedPath } from './fine-tune-data.js'
import { type Choice, chooseAlphaOn, DEFAULT_ALPHAS, evaluateAlphas, type SweepOptions } from './sweep.js'

export interface EvaluateModelOptions {
  /** Folder of a CLIP. */
  model: string
  /** Folder of an adapter for it. */
  adapter?: string
  /** Default: the α saved with the adapter, else 0.5; 1 for a LoRA. `sweep`: every one of `alphas`. */
  alpha?: number | 'sweep'
  alphas?: readonly number[]
  /** A set that chooses α among `alphas`; without it nothing is chosen. */
  validation?: string
  /** Sets of images with classes, or of captioned images. */
  sets?: readonly NamedPath[]
  /** Captioned sets, for retrieval also where they have classes. */
  captions?: readonly NamedPath[]
  classNames?: ClassNames
  templates?: readonly string[]
  dtype?: FloatDType
  imageSize?: number
  batch?: number
  skipBroken?: boolean
  exif?: boolean
  signal?: AbortSignal
  onProgress?: (progress: EvaluationProgress & { alpha?: number }) => void
}

/** Results of every set, at each α that was asked for; `level` is the CPU level that computed. */
export interface ModelEvaluation {
  /** Folder of a CLIP, and of its adapter. */
  readonly model: string
  readonly adapter?: string
  readonly dtype: FloatDType
  /** CPU level that computed, and with how many threads. */
  readonly level: string
  readonly threads: number
  /** α chosen on the validation set. */
  readonly chosen?: Choice
  readonly results: readonly { readonly name: string; readonly alpha?: number; readonly evaluation: Evaluation }[]
}

/**
 * Evaluates a model over sets, with an adapter at the α asked for; `validation` alone chooses.
 * @throws E_OPTION for no set, or α without an adapter; E_BASE for another model's adapter; the errors of files
 */
export async function evaluateModel(options: EvaluateModelOptions): Promise<ModelEvaluation> {
  const { model, adapter: folder, dtype, imageSize } = options
  if (folder === undefined && (options.alpha !== undefined || options.validation !== undefined))
    throw new CambiumError('E_OPTION', 'alpha: expected an adapter that it scales, got none')
  const sets = await openSets(options)
  const clip = await Clip.load(model, { dtype, imageSize })
  try {
    const { level, threads } = native.backendInfo()
    const about = { model, ...(folder === undefined ? {} : { adapter: folder }), dtype: clip.dtype, level, threads }
    if (folder !== undefined) return { ...about, ...(await evaluateAdapter(clip, folder, sets, options)) }
    const evaluation = await evaluate(clip, sets.tests, { ...sweepOptions(options), onProgress: options.onProgress })
    return { ...about, results: [{ name: model, evaluation }] }
  } finally {
    clip.dispose()
  }
}

async function evaluateAdapter(
  clip: Clip,
  folder: string,
  { tests, validation }: OpenSets,
  options: EvaluateModelOptions,
): Promise<Pick<ModelEvaluation, 'chosen' | 'results'>> {
  const { adapter, alpha: saved } = await openAdapter(clip, folder)
  try {
    const { alpha, alphas = DEFAULT_ALPHAS, onProgress } = options
    let at: number | undefined
    const settings: SweepOptions = {
      ...sweepOptions(options),
      onAlpha: (value) => {
        at = value
      },
      onProgress: (progress) => onProgress?.({ ...progress, alpha: at }),
    }
    const chosen = validation === undefined ? undefined : await chooseAlphaOn(clip, adapter, validation, { ...settings, alphas })
    const tried = alpha === 'sweep' ? alphas : [alpha ?? chosen?.alpha ?? saved]
    const points = await evaluateAlphas(clip, adapter, tried, tests, settings)
    const results = points.map((point) => ({ name: point.alpha === 0 ? 'zero-shot' : folder, ...point }))
    return { ...(chosen ? { chosen } : {}), results }
  } finally {
    adapter.dispose()
  }
}

function sweepOptions({ templates, signal, batch, skipBroken, exif }: EvaluateModelOptions): SweepOptions {
  return { templates, signal, batch, skipBroken, exif, decoded: new DecodedImages() }
}

interface OpenSets {
  readonly tests: EvaluationSet[]
  readonly validation?: EvaluationSet
}

async function openSets({ sets = [], captions = [], validation, classNames, skipBroken }: EvaluateModelOptions): Promise<OpenSets> {
  if (sets.length + captions.length === 0) throw new CambiumError('E_OPTION', 'sets: expected at least one to evaluate on, got none')
  const open = (path: string) => openDataset(path, { fallback: { classNames }, skipBroken })
  const tests: EvaluationSet[] = []
  for (const { name, path } of sets) tests.push({ name, data: await open(path) })
  for (const { name, path } of captions) tests.push({ name, data: await open(path), task: 'retrieval' })
  return { tests, ...(validation === undefined ? {} : { validation: { name: 'validation', data: await open(validation) } }) }
}
