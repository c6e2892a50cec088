/** After training: α, chosen on validation; the adapter or the fine-tuned model, and the merged one; the comparison with the model as it was. */
import { join } from 'node:path'
import { saveAdapter } from '../checkpoint/adapter-file.js'
import { saveLora } from '../checkpoint/lora-file.js'
import { merge } from '../checkpoint/merge.js'
import { mergeLora } from '../checkpoint/merge-lora.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import type { Method } from '../injection/injection.js'
import { Lora } from '../methods/lora.js'
import { RAdapter } from '../methods/r-adapter.js'
import type { Clip } from '../models/clip.js'
import { type Evaluation, type EvaluationSet, type Predictions, scoreOf } from './evaluate.js'
import { DecodedImages } from './features.js'
import { type FineTuneData, setsOf } from './fine-tune-data.js'
import { defaultAlpha } from './fine-tune-method.js'
import type { FineTuneOptions, FineTuneReport } from './fine-tune-options.js'
import { PredictionRecord } from './prediction-file.js'
import type { RunLog } from './run-log.js'
import { type Choice, chooseAlphaOn, evaluateAlphas, type SweepOptions, type SweepPoint } from './sweep.js'
import type { Trainer } from './train.js'

/** Enough points to see how what is learned is paid for. */
const DEFAULT_CURVE: readonly number[] = [0, 0.25, 0.5, 0.75, 1]

/** What stands when training is done. */
interface FinishedTraining {
  readonly clip: Clip
  readonly data: FineTuneData
  readonly method: Method
  readonly trainer: Trainer
  readonly options: FineTuneOptions
  readonly log: RunLog
}

/** @throws what saving and evaluation report; the signal's reason when aborted */
export async function concludeFineTune(training: FinishedTraining): Promise<Pick<FineTuneReport, 'alpha' | 'results' | 'curve' | 'files'>> {
  const { data, options } = training
  const decoded = new DecodedImages()
  const choice = await choose(training, decoded)
  const value = options.alpha ?? choice?.alpha ?? defaultAlpha(options, data.train.labelled)
  const by = options.alpha !== undefined ? 'option' : choice ? 'validation' : 'default'
  options.onEvent?.({ type: 'alpha', alpha: value, choice })
  const files = { ...(await save(training, value)), ...(await saveLabels(training)) }
  const alpha = { value, by, ...(choice ? { tried: choice.tried } : {}) } as const
  return { alpha, ...(await compare(training, value, decoded)), files }
}

async function choose(training: FinishedTraining, decoded: DecodedImages): Promise<Choice | undefined> {
  const { clip, data, method, options } = training
  if (options.alpha !== undefined || data.validation === undefined) return undefined
  return chooseAlphaOn(clip, method, data.validation, { ...evaluationOf(training, decoded), alphas: options.alphas })
}

/** Every set at 0, α, 1 and along the curve; logged, and predictions written, for what the report shows. */
async function compare(
  training: FinishedTraining,
  value: number,
  decoded: DecodedImages,
): Promise<Pick<FineTuneReport, 'results' | 'curve'>> {
  const { clip, data, method, trainer, options, log } = training
  const sets = setsOf(data)
  const predictions = new PredictionRecord()
  const shown = new Set([0, value, 1])
  const onPredictions = (set: EvaluationSet, alpha: number, made: Predictions) => shown.has(alpha) && predictions.add(set, alpha, made)
  const along = options.curve ?? (data.tests.length === 0 ? [] : DEFAULT_CURVE)
  const alphas = [...new Set([...shown, ...along])].sort((a, b) => a - b)
  const evaluation = evaluationOf(training, decoded, onPredictions)
  const points = sets.length === 0 ? [] : await evaluateAlphas(clip, method, alphas, sets, evaluation)
  const curve = points.map((point) => ({ alpha: point.alpha, scores: scoresOf(point.evaluation) }))
  for (const [alpha, step] of [
    [0, 0],
    [value, trainer.steps],
  ])
    for (const { scores } of curve.filter((point) => point.alpha === alpha)) await log.write({ type: 'evaluated', step, alpha, scores })
  await predictions.write(options.out)
  return { results: points.filter(({ alpha }) => shown.has(alpha)).map((point) => named(point, options)), curve }
}

/** Of an evaluation at several α; what it tells comes with the α at hand. */
function evaluationOf(
  { trainer, options, log }: FinishedTraining,
  decoded: DecodedImages,
  onPredictions?: (set: EvaluationSet, alpha: number, made: Predictions) => void,
): SweepOptions {
  const { signal, onEvent, evaluationBatch: batch, exif } = options
  let at = 0
  return {
    signal,
    batch,
    exif,
    averages: trainer.averages,
    decoded,
    onAlpha: (alpha) => {
      at = alpha
    },
    onSkip: (error) => log.skip(error),
    onProgress: (progress) => onEvent?.({ type: 'evaluate', alpha: at, ...progress }),
    onPredictions: (set, made) => onPredictions?.(set, at, made),
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
async function save({ clip, method, trainer, options }: FinishedTraining, alpha: number): Promise<Record<string, string>> {
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

/** Classes and prompts of training, for `classify --labels`: the merged model is asked as it was taught. Captions have none. */
async function saveLabels({ data: { train }, options: { out } }: FinishedTraining): Promise<Record<string, string>> {
  if (!train.labelled) return {}
  const labels = join(out, 'labels.json')
  await writeFileAtomic(labels, `${JSON.stringify({ classes: train.classNames, templates: train.templates }, null, 1)}\n`)
  return { labels }
}
