// One cell of a protocol: a method trained on one task with each learning rate it may have, the one that validation likes
// best looked at on the test sets. Test sets choose nothing.
import { abortReason } from '../errors.js'
import type { Method } from '../injection/injection.js'
import { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { evaluate } from '../train/evaluate.js'
import { DecodedImages } from '../train/features.js'
import { createMethod, methodDefaults } from '../train/fine-tune-method.js'
import { planRun } from '../train/plan.js'
import { chooseAlphaOn, DEFAULT_ALPHAS, evaluateAlphas, type SweepOptions } from '../train/sweep.js'
import { Trainer } from '../train/train.js'
import type { CellResult } from './cells-file.js'
import { measuresOf } from './measures.js'
import type { ProtocolMethod, ProtocolOptions, Task } from './protocol.js'

export interface CellOptions extends ProtocolOptions {
  /** of the test sets, which every cell looks at */
  readonly decoded: DecodedImages
}

/** What running a cell finds out. */
export type CellOutcome = Omit<CellResult, 'key' | 'task' | 'dataset' | 'shots' | 'seed' | 'method'>

export const policiesOf = ({ method, alphas }: ProtocolMethod): readonly (number | 'validation')[] =>
  alphas ?? (method === 'r-adapter' ? ['validation'] : method === 'full' || method === 'flyp' ? [1, 'validation'] : [1])

type Outcome = Pick<CellResult, 'points' | 'seconds' | 'steps'> & { readonly score: number | null }

/** The pretrained model on the sets of a task. */
export async function zeroShotCell(task: Task, options: CellOptions): Promise<CellOutcome> {
  const clip = await Clip.load(options.model, { dtype: options.dtype, imageSize: options.imageSize })
  try {
    const evaluation = await evaluate(clip, task.tests, {
      ...evaluationOptions(options, `zero-shot on ${task.name}`),
      decoded: options.decoded,
    })
    return { points: [{ policy: 0, alpha: 0, measures: measuresOf(evaluation) }] }
  } finally {
    clip.dispose()
  }
}

/** @param rates tried in their order; of equals the first is taken */
export async function trainCell(task: Task, method: ProtocolMethod, rates: readonly number[], options: CellOptions): Promise<CellOutcome> {
  const tried: { rate: number; score: number | null }[] = []
  let best: (Outcome & { rate: number }) | undefined
  for (const rate of rates) {
    const better = best?.score ?? Number.NEGATIVE_INFINITY
    const outcome = await trainOnce(task, method, rate, rates.length > 1 ? better : undefined, options)
    tried.push({ rate, score: outcome.score })
    if (outcome.points.length > 0) best = { ...outcome, rate }
  }
  const { rate, points, seconds, steps } = best as Outcome & { rate: number } // the first is better than nothing
  return { images: task.train.length, steps, seconds, rate, rates: tried, points }
}

/** @param better a score that must be surpassed for the test sets to be looked at; undefined: always */
async function trainOnce(
  task: Task,
  method: ProtocolMethod,
  lr: number,
  better: number | undefined,
  options: CellOptions,
): Promise<Outcome> {
  const clip = await Clip.load(options.model, { dtype: options.dtype, imageSize: options.imageSize })
  const { budget } = native.memory()
  const label = `${method.name} on ${task.name}, seed ${task.seed}`
  try {
    const epsilon = method.epsilon ?? (task.train.labelled ? undefined : 0)
    const trained = await createMethod(clip, { ...method, seed: task.seed, epsilon })
    const settings = settingsOf(task, method, lr, options)
    const { memoryBudget } = options
    await planRun(clip, { train: task.train, tests: [] }, { ...method, ...settings, memoryBudget })
    const trainer = new Trainer(clip, { ...settings, method: trained.method, objective: trained.objective, data: task.train })
    try {
      const seconds = await train(trainer, label, options)
      const sweep = { ...evaluationOptions(options, label), averages: trainer.averages }
      const { tried } = options
      const chosen = await choose(clip, trained.method, { task, asked: method, tried, comparesRates: better !== undefined }, sweep)
      if (better !== undefined && (chosen.score ?? 0) <= better) return { points: [], score: chosen.score }
      const tests = { ...sweep, decoded: options.decoded }
      const points = await evaluateAlphas(clip, trained.method, [...new Set(chosen.alphas)], task.tests, tests)
      const at = (alpha: number) => measuresOf(points.find((point) => point.alpha === alpha)?.evaluation ?? {})
      const policies = policiesOf(method).map((policy, i) => ({ policy, alpha: chosen.alphas[i], measures: at(chosen.alphas[i]) }))
      return { points: policies, seconds, steps: trainer.steps, score: chosen.score }
    } finally {
      trainer.dispose()
      trained.dispose()
    }
  } finally {
    clip.dispose()
    native.setMemoryBudget(budget)
  }
}

interface ToChoose {
  readonly task: Task
  readonly asked: ProtocolMethod
  /** what is tried on validation */
  readonly tried?: readonly number[]
  /** whether other learning rates are trained too */
  readonly comparesRates: boolean
}

/** The α of every policy, and the validation score of the first: what learning rates are compared by. */
async function choose(
  clip: Clip,
  method: Method,
  { task, asked, tried = DEFAULT_ALPHAS, comparesRates }: ToChoose,
  sweep: SweepOptions,
): Promise<{ alphas: number[]; score: number | null }> {
  const policies = policiesOf(asked)
  const validation = task.validation?.data.length ? task.validation : undefined
  const fallback = task.train.labelled ? 0.5 : 0.8
  if (validation === undefined) return { alphas: policies.map((policy) => (policy === 'validation' ? fallback : policy)), score: null }
  const [first] = policies
  const choice = policies.includes('validation') ? await chooseAlphaOn(clip, method, validation, { ...sweep, alphas: tried }) : undefined
  const alphas = policies.map((policy) => (policy === 'validation' ? (choice?.alpha ?? fallback) : policy))
  if (first === 'validation' || !comparesRates) return { alphas, score: choice?.score ?? null }
  const known = choice?.tried.find(({ alpha }) => alpha === first)
  return { alphas, score: (known ?? (await chooseAlphaOn(clip, method, validation, { ...sweep, alphas: [first] }))).score }
}

function settingsOf(task: Task, method: ProtocolMethod, lr: number, options: ProtocolOptions) {
  const defaults = methodDefaults(method)
  const { skipBroken, exif, warmup } = options
  return {
    epochs: method.epochs ?? options.epochs ?? 50,
    batch: Math.min(options.batch ?? 32, task.train.length),
    lr,
    weightDecay: method.weightDecay ?? defaults.weightDecay,
    ema: method.ema ?? defaults.ema,
    seed: task.seed,
    warmup,
    skipBroken,
    exif,
  }
}

async function train(trainer: Trainer, label: string, { signal, onEvent }: ProtocolOptions): Promise<number> {
  let seconds = 0
  for await (const event of trainer.run({ signal })) {
    if (event.type === 'step') onEvent?.({ type: 'step', label, step: event.step, steps: event.steps })
    if (event.type === 'end') seconds = event.seconds
  }
  if (signal?.aborted) throw abortReason(signal)
  return seconds
}

function evaluationOptions({ templates, skipBroken, exif, signal, onEvent }: ProtocolOptions, label: string): SweepOptions {
  return {
    templates,
    skipBroken,
    exif,
    signal,
    decoded: new DecodedImages(),
    onProgress: ({ set, done, total }) => onEvent?.({ type: 'evaluate', label: `${label}: ${set}`, done, total }),
  }
}
