/**
 * From paths to reports: several methods and seeds over one stream, each run in a folder of its own; what is finished is kept. Where a
 * method is given several values of a setting, the first seed tries all and the one that is best on validation is taken.
 */
import { join } from 'node:path'
import { fingerprint } from '../checkpoint/fingerprint.js'
import { CambiumError } from '../errors.js'
import { openCheckpoint } from '../formats/checkpoint.js'
import { readJsonObject } from '../formats/json-fields.js'
import { Clip, type ClipOptions } from '../models/clip.js'
import type { FloatDType } from '../native.js'
import { type Choice, chooseSettings, withTried } from './choose-settings.js'
import { type LearnEvent, type LearnOptions, learn } from './learn.js'
import type { LearnReport } from './learn-report.js'
import { dtypeOf, type LearnState, readLearnState, runFolders } from './learn-state.js'
import type { Learner } from './learner.js'
import { createLearner, hasSettings, type MethodSettings, settingsToTry } from './learners/registry.js'
import type { StreamSpec } from './task-spec.js'
import { openTasks, type TaskStream } from './tasks.js'

/** A method of a comparison, with its settings. */
export interface LearnMethod {
  /** how it is called in tables; also its folder */
  readonly label: string
  /** a name of the registry */
  readonly method: string
  /** of the method; a list where it wants one value is what is tried on validation */
  readonly settings?: MethodSettings
}

/** What a run is given beside its stream and its method. */
export interface RunSettings
  extends Pick<LearnOptions, 'checkpointEvery' | 'evaluationBatch' | 'memoryBudget' | 'skipBroken' | 'exif' | 'onSkip' | 'signal'>,
    Pick<ClipOptions, 'dtype' | 'imageSize'> {
  /** write OUT/model, an ordinary checkpoint, where what was learned is plain weights; a note tells where it is not */
  saveModel?: boolean
  /** told of every run, task, step and evaluation */
  onEvent?: (event: RunLearnEvent) => void
}

/** Methods and seeds over one stream, as paths. */
export interface RunLearnOptions extends RunSettings {
  /** folder of the pretrained CLIP */
  model: string
  /** folder of the run, or of the runs: OUT/<label>/seed-<s> where there are several, or with `apart` */
  out: string
  /** a folder of its own for the one run too, for more methods and seeds beside it later */
  apart?: boolean
  /** tasks and watched sets as paths: what a tasks file holds */
  stream: StreamSpec
  /** each by a label of its own; every one runs with every seed */
  methods: readonly LearnMethod[]
  /** over the settings of every method that has them: smaller machines, shorter runs */
  over?: MethodSettings
  /** default 0 */
  seeds?: readonly number[]
}

export type RunLearnEvent =
  | {
      readonly type: 'run'
      readonly run: number
      readonly runs: number
      readonly label: string
      readonly seed: number
      readonly settings?: MethodSettings
    }
  | { readonly type: 'note'; readonly text: string }
  | { readonly type: 'evaluate'; readonly set: string; readonly done: number; readonly total: number }
  /** of what a method encodes before its first task: `what` says which images or texts */
  | { readonly type: 'prepare'; readonly what: string; readonly done: number; readonly total: number }
  | { readonly type: 'chosen'; readonly label: string; readonly choice: Choice }
  | LearnEvent

/**
 * Runs every method with every seed over a stream, each in a folder of its own; what is finished is not run again.
 * @returns the reports of all runs, method by method; undefined when it was stopped (the same call goes on)
 * @throws E_OPTION for methods or settings that there are not, E_RUN for a folder that holds another run, what opening and training throw
 */
export async function runLearn(options: RunLearnOptions): Promise<LearnReport[] | undefined> {
  const { out, methods, seeds = [0], stream } = options
  check(methods, seeds)
  const candidates = methods.map(({ method, settings }) => settingsToTry(method, settings ?? {}, options.over))
  const single = !options.apart && methods.length === 1 && seeds.length === 1 && candidates[0].length === 1
  await checkLayout(out, single)
  const runs = candidates.reduce((sum, list) => sum + (list.length > 1 ? list.length : 0) + seeds.length, 0)
  noteUnequal(options, candidates)
  const base = await fingerprint(await openCheckpoint(options.model))
  const reports: LearnReport[] = []
  let run = 0
  for (const [m, method] of methods.entries()) {
    const folder = single ? out : join(out, method.label)
    const one = async (seed: number, settings: MethodSettings, place: string) => {
      options.onEvent?.({ type: 'run', run: ++run, runs, label: method.label, seed, settings })
      const opened = await openTasks(stream, { seed, skipBroken: options.skipBroken })
      return runOne(options, opened, { ...method, settings, seed, base }, place)
    }
    const choice = await chooseSettings(folder, candidates[m], seeds[0], one)
    if (!choice) return undefined
    if (choice.tried) options.onEvent?.({ type: 'chosen', label: method.label, choice })
    for (const seed of seeds) {
      const place = single ? folder : join(folder, `seed-${seed}`)
      const report = await one(seed, choice.settings, place)
      if (!report) return undefined
      reports.push(choice.tried ? await withTried(report, choice, place) : report)
    }
  }
  return reports
}

function check(methods: readonly LearnMethod[], seeds: readonly number[]): void {
  const labels = methods.map(({ label }) => label)
  for (const [what, list] of Object.entries<readonly unknown[]>({ methods: labels, seeds })) {
    if (list.length === 0) throw new CambiumError('E_OPTION', `${what}: expected at least one, got none`)
    const twice = list.find((entry, i) => list.indexOf(entry) !== i)
    if (twice !== undefined) throw new CambiumError('E_OPTION', `${what}: expected each once, got ${JSON.stringify(twice)} twice`)
  }
}

/** One run and several do not share a folder: their reports are one file. */
async function checkLayout(out: string, single: boolean): Promise<void> {
  const other = (await runFolders(out)).find((folder) => (folder === out) !== single)
  if (other === undefined) return
  const [wanted, there] = single ? ['one run', `several, such as ${other}`] : ['several runs', 'one, in the folder itself']
  throw new CambiumError('E_RUN', `out: expected a folder for ${wanted}, got ${out}, which has ${there}`)
}

/** A method that was given more chances than another looks better than it is. */
function noteUnequal({ methods, onEvent }: RunLearnOptions, candidates: readonly (readonly MethodSettings[])[]): void {
  const trained = methods.flatMap(({ label, method }, m) => (hasSettings(method) ? [{ label, count: candidates[m].length }] : []))
  if (trained.every(({ count }) => count === trained[0].count)) return
  const counts = trained.map(({ label, count }) => `${label} ${count}`).join(', ')
  onEvent?.({ type: 'note', text: `methods are given different numbers of settings to choose from: ${counts}` })
}

/** One run in its folder, with a model of its own; a finished one is read. undefined when it was stopped. */
async function runOne(
  options: RunLearnOptions,
  stream: TaskStream,
  { label, method, settings = {}, seed, base }: LearnMethod & { seed: number; base: string },
  out: string,
) {
  const { model, dtype, imageSize } = options
  const before = await finishedRun(out, { method, options: settings, seed, base, dtype }, stream)
  if (before && !options.saveModel) return before
  const clip = await Clip.load(model, { dtype, imageSize })
  try {
    return await runWith(clip, options, { stream, label, method, settings, seed, out })
  } finally {
    clip.dispose()
  }
}

/** Runs a method over a stream in its folder, with a model that it may change. */
export async function runWith(
  clip: Clip,
  { onEvent, ...rest }: RunSettings,
  { method, settings, ...run }: { stream: TaskStream; label: string; method: string; settings: MethodSettings; seed: number; out: string },
): Promise<LearnReport | undefined> {
  const learner = await createLearner(clip, method, settings, {
    seed: run.seed,
    signal: rest.signal,
    note: (text) => onEvent?.({ type: 'note', text }),
    onProgress: (what, { done, total }) => onEvent?.({ type: 'prepare', what, done, total }),
  }).catch((error) => {
    if (!rest.signal?.aborted || error !== rest.signal.reason) throw error
    return undefined
  })
  if (!learner) return undefined
  try {
    const onProgress = ({ set, done, total }: { set: string; done: number; total: number }) =>
      onEvent?.({ type: 'evaluate', set, done, total })
    for await (const event of learn(clip, { ...rest, ...run, learner, options: settings, onProgress })) {
      onEvent?.(event)
      if (event.type !== 'end') continue
      if (event.reason === 'aborted') return undefined
      if (rest.saveModel) await saveModel(clip, learner, run.out, onEvent)
      return event.report
    }
    return undefined
  } finally {
    learner.dispose()
  }
}

async function saveModel(clip: Clip, learner: Learner, out: string, tell: RunSettings['onEvent']): Promise<void> {
  if (learner.plain) await clip.save(join(out, 'model'))
  else tell?.({ type: 'note', text: `${learner.name}: what was learned is no plain weights; ${out} holds it for openLearned` })
}

type RunIdentity = Pick<LearnState, 'base' | 'method' | 'options' | 'seed'>

/** The report of a run that is done, if it is this one; any operands do where none are asked for. */
async function finishedRun(folder: string, { dtype, ...run }: RunIdentity & { dtype?: FloatDType }, { tasks, watch }: TaskStream) {
  const state = await readLearnState(folder)
  const report = (await readJsonObject(join(folder, 'learn.json'))) as LearnReport | undefined
  if (!state || !report || state.stages.length !== tasks.length + 1) return undefined
  if (dtype !== undefined && dtype !== dtypeOf(state)) return undefined
  type Sets = readonly { readonly name: string; readonly images: number }[]
  const identity = ({ base, method, options, seed }: RunIdentity, digests: readonly { readonly digest: string }[], sets: Sets) =>
    JSON.stringify([base, method, options, seed, digests.map(({ digest }) => digest), sets.map(({ name, images }) => [name, images])])
  const sized = (name: string, data?: { readonly length: number }) => ({ name, images: data?.length ?? 0 })
  const sets = [...tasks.map(({ name, test }) => sized(name, test)), ...watch.map(({ name, data }) => sized(name, data))]
  const same = identity(state, state.tasks, report.sets) === identity(run, tasks, sets)
  const chosenBy = report.validation !== undefined || tasks.every(({ validation }) => !validation)
  return same && chosenBy ? report : undefined
}
