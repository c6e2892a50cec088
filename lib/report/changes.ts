/** What changed from the model as it was to the merged model: scores of sets, classes, images, confusions. Pure functions. */
import type { PredictedImage, PredictedSet } from '../train/prediction-file.js'
import { mean } from './numbers.js'
import type { Role, Run, RunReport, SetEvaluation } from './run-folder.js'

/** Score of a set before and after: top-1, or the mean of both ways' R@1. */
export interface ScoreChange {
  readonly before: number
  readonly after: number
  /** Half of the 95 % interval of the difference; from paired images where they are known. */
  readonly margin: number
}

export interface SetChange extends ScoreChange {
  readonly name: string
  readonly role: Role
  readonly task: SetEvaluation['task']
  readonly evaluations: { readonly before: SetEvaluation; readonly after: SetEvaluation }
  /** Images right after and wrong before, and the other way round; of classification and where predictions are known. */
  readonly gained: readonly ImageChange[]
  readonly lost: readonly ImageChange[]
  readonly confusions: readonly Confusion[]
}

export interface ImageChange {
  readonly id: string
  readonly image?: string
  /** Name of the true class, or the first caption. */
  readonly truth: string
  /** Names of the predicted classes, or ranks. */
  readonly before: string
  readonly after: string
}

export interface Confusion {
  readonly truth: string
  readonly predicted: string
  readonly before: number
  readonly after: number
}

export function scoreOf(evaluation: SetEvaluation): number {
  return evaluation.task === 'classification' ? evaluation.top1 : (evaluation.imageToText.r1 + evaluation.textToImage.r1) / 2
}

export const resultAt = ({ results }: RunReport, alpha: number): RunReport['results'][number] | undefined =>
  results.find((result) => result.alpha === alpha)

/** Every set of a run, in its order; empty when nothing was evaluated. */
export function setChanges({ report, predictions }: Run): SetChange[] {
  const before = report && resultAt(report, 0)
  const after = report?.alpha && resultAt(report, report.alpha.value)
  if (!before || !after || !report?.alpha) return []
  const alpha = report.alpha.value
  return Object.entries(after.evaluation).flatMap(([name, evaluation]) => {
    const first = before.evaluation[name]
    if (first === undefined || first.task !== evaluation.task) return []
    const predicted = predictions.find((set) => set.set === name && set.task === evaluation.task)
    const images = predicted === undefined ? undefined : imageChanges(predicted, alpha)
    const scores = { before: scoreOf(first), after: scoreOf(evaluation) }
    const count = evaluation.task === 'classification' ? evaluation.count : evaluation.images
    const margin = evaluation.task === 'classification' && images ? pairedMargin(images, count) : unpairedMargin(scores, count)
    const evaluations = { before: first, after: evaluation }
    const role = report.sets[name]?.role ?? (name === 'validation' ? 'validation' : evaluation.task === 'retrieval' ? 'captions' : 'test')
    return { name, role, task: evaluation.task, ...scores, margin, evaluations, ...(images ?? { gained: [], lost: [], confusions: [] }) }
  })
}

/** Of b images gained and c lost among n, the difference (b − c)/n has the variance (b + c − (b − c)²/n)/n². */
function pairedMargin({ gained, lost }: Pick<SetChange, 'gained' | 'lost'>, count: number): number {
  const difference = gained.length - lost.length
  return (1.96 * Math.sqrt(gained.length + lost.length - difference ** 2 / count)) / count
}

function unpairedMargin({ before, after }: { before: number; after: number }, count: number): number {
  return 1.96 * Math.sqrt((before * (1 - before) + after * (1 - after)) / Math.max(1, count))
}

function imageChanges(set: PredictedSet & { images: readonly PredictedImage[] }, alpha: number) {
  const [from, to] = [set.alphas.indexOf(0), set.alphas.indexOf(alpha)]
  if (from < 0 || to < 0) return undefined
  const right = ({ label, values }: PredictedImage, model: number) => values[model] === (set.task === 'retrieval' ? 1 : label)
  const told = ({ id, image, label, caption, values }: PredictedImage): ImageChange => {
    const say = (value: number) => (set.task === 'retrieval' ? `rank ${value}` : set.classes[value])
    const truth = label === undefined ? (caption ?? '') : set.classes[label]
    return { id, truth, before: say(values[from]), after: say(values[to]), ...(image === undefined ? {} : { image }) }
  }
  return {
    gained: set.images.filter((image) => right(image, to) && !right(image, from)).map(told),
    lost: set.images.filter((image) => right(image, from) && !right(image, to)).map(told),
    confusions: set.task === 'retrieval' ? [] : confusionsOf(set, from, to),
  }
}

function confusionsOf({ images, classes }: PredictedSet & { images: readonly PredictedImage[] }, from: number, to: number): Confusion[] {
  const pairs = new Map<string, { truth: string; predicted: string; before: number; after: number }>()
  const tally = (label: number, predicted: number, when: 'before' | 'after') => {
    if (label === predicted) return
    const key = `${label} ${predicted}`
    const pair = pairs.get(key) ?? { truth: classes[label], predicted: classes[predicted], before: 0, after: 0 }
    pair[when]++
    pairs.set(key, pair)
  }
  for (const { label = -1, values } of images) {
    tally(label, values[from], 'before')
    tally(label, values[to], 'after')
  }
  const order = (a: Confusion, b: Confusion) => Math.max(b.before, b.after) - Math.max(a.before, a.after) || b.after - a.after
  return [...pairs.values()].sort(order)
}

export interface ClassChange {
  readonly name: string
  readonly count: number
  readonly before: number
  readonly after: number
}

/** Classes that occur, the greatest gain first; of equals the one with more images. */
export function classChanges({ evaluations: { before, after } }: SetChange): ClassChange[] {
  if (before.task !== 'classification' || after.task !== 'classification') return []
  return after.perClass
    .flatMap(({ name, count, top1 }, i) => {
      const first = before.perClass[i]?.top1
      return top1 === null || first === null || first === undefined ? [] : { name, count, before: first, after: top1 }
    })
    .sort((a, b) => b.after - b.before - (a.after - a.before) || b.count - a.count)
}

/** What the run is judged by: sets of its own task, and sets that it should not lose. */
export interface Verdict {
  readonly learned: SetChange[]
  readonly kept: SetChange[]
}

/** Test sets are the task's own; without one the captioned ones, then validation (which has chosen α). */
export function verdictOf(changes: readonly SetChange[]): Verdict {
  const of = (role: Role) => changes.filter((change) => change.role === role)
  const learned = [of('test'), of('captions'), of('validation')].find((sets) => sets.length > 0) ?? []
  return { learned, kept: of('ood') }
}

/** The mean of sets, each counting the same. */
export function meanChange(changes: readonly ScoreChange[]): ScoreChange {
  const margin = Math.sqrt(changes.reduce((sum, change) => sum + change.margin ** 2, 0)) / changes.length
  return { before: mean(changes.map((change) => change.before)), after: mean(changes.map((change) => change.after)), margin }
}

export type Direction = 'rose' | 'fell' | 'held'

/** `held`: the difference is within its 95 % interval, or rounds to nothing. */
export function directionOf({ before, after, margin }: ScoreChange): Direction {
  const difference = after - before
  if (Math.abs(difference) <= margin || Math.abs(difference) < 0.0005) return 'held'
  return difference > 0 ? 'rose' : 'fell'
}
