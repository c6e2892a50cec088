/**
 * A stream of tasks, opened: what trains, chooses and tests in each. Every protocol ends as the same thing, a list of tasks with
 * classes of their own; class-incremental cuts one dataset by classes. No image is read here.
 */
import { readClassNames } from '../data/class-names.js'
import type { Dataset } from '../data/dataset.js'
import { digestOf } from '../data/digest.js'
import { openDataset } from '../data/open-dataset.js'
import { philoxRandom, shuffledOrder } from '../data/random.js'
import { amongClasses, fewShot, fewShotWithValidation, selectClasses, splitDataset } from '../data/splits.js'
import { CambiumError, isCambiumError } from '../errors.js'
import { DEFAULT_TEMPLATES } from '../train/features.js'
import type { LearnProtocol, StreamSpec, TaskSpec, WatchSpec } from './task-spec.js'

/** Where classes come from; a test set that cannot be read any more still has them. */
export interface TaskClasses {
  readonly classNames: readonly string[]
  readonly templates: readonly string[]
}

/** A task of a stream, opened. */
export interface StreamTask {
  readonly name: string
  readonly classes: TaskClasses
  /** tells this task's data from others', without reading images */
  readonly digest: string
  /** absent: learned earlier, and not needed again */
  readonly train?: Dataset
  readonly validation?: Dataset
  readonly test?: Dataset
  /** how it was opened, for the day after; absent for data made in a program */
  readonly spec?: TaskSpec
}

export interface WatchedSet {
  readonly name: string
  readonly data: Dataset
  readonly spec?: WatchSpec
}

/** Tasks in the order in which they come, and the sets that are watched on the way. */
export interface TaskStream {
  readonly protocol: LearnProtocol
  readonly tasks: readonly StreamTask[]
  /** looked at after every task; nothing trains on them */
  readonly watch: readonly WatchedSet[]
}

export interface OpenTasksOptions {
  /** draws shots, and the order of classes where none is given. Default 0 */
  readonly seed?: number
  readonly skipBroken?: boolean
}

/**
 * Opens everything that a stream names.
 * @throws E_OPTION for a stream that its protocol does not allow, E_DATA for sets of one task with classes that do not train, and the errors of
 * files
 */
export async function openTasks(stream: StreamSpec, options: OpenTasksOptions = {}): Promise<TaskStream> {
  const { protocol = 'domain-class-incremental', watch = [] } = stream
  const specs = protocol === 'class-incremental' ? await byClasses(stream, options) : stream.tasks
  if (protocol !== 'class-incremental')
    for (const key of ['base', 'increment', 'order'] as const)
      if (stream[key] !== undefined) throw new CambiumError('E_OPTION', `${key}: expected it with class-incremental alone, got ${protocol}`)
  const tasks: StreamTask[] = []
  for (const spec of specs) tasks.push(await openTask(withDefaults(spec, stream), options))
  const watched: WatchedSet[] = []
  for (const spec of watch) watched.push(await openWatched({ templates: stream.templates, ...spec }, options))
  const opened = { protocol, tasks, watch: watched }
  checkStream(opened)
  return opened
}

/** @throws E_OPTION for names that occur twice; E_DATA for domain-incremental tasks of different classes */
export function checkStream({ protocol, tasks, watch }: TaskStream): void {
  const names = [...tasks, ...watch].map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined)
    throw new CambiumError('E_OPTION', `tasks: expected a name of its own for each set, got ${JSON.stringify(twice)} twice`)
  const [first, ...others] = tasks
  if (protocol === 'domain-incremental')
    for (const { name, classes } of others) requireSame(name, first.classes.classNames, `the classes of ${first.name}`, classes.classNames)
}

function withDefaults(spec: TaskSpec, { templates, splitSeed }: StreamSpec): TaskSpec {
  return { ...(templates ? { templates } : {}), ...(splitSeed === undefined ? {} : { splitSeed }), ...spec }
}

async function openTask(spec: TaskSpec, options: OpenTasksOptions): Promise<StreamTask> {
  const { name } = spec
  const whole = await openSet(spec.train, spec, options)
  const { rest, test } = await setTestApart(spec, whole, options)
  const chosen = (data: Dataset) => (spec.classes ? selectClasses(data, placesOf(spec, data)) : data)
  const { train, validation } = await setValidationApart(spec, rest, chosen, options)
  const tested = chosen(inClasses(name, 'test', test, whole.classNames))
  if (tested.length === 0) throw new CambiumError('E_DATA', `${name}: expected images of its classes in the test set, got none`)
  return { ...streamTask({ name, train, validation, test: tested }), spec }
}

/**
 * A task of sets that are open already, such as those made in a program. All are judged among the classes of `train`.
 * @throws E_DATA where a set has other classes, or images without
 */
export function streamTask({
  name,
  train,
  validation,
  test,
}: {
  name: string
  train: Dataset
  validation?: Dataset
  test?: Dataset
}): StreamTask {
  const { classNames, templates } = train
  for (const [what, set] of Object.entries({ train, validation, test }))
    if (set && set.length > 0 && !set.labelled)
      throw new CambiumError('E_DATA', `${name}: expected a class for every image of ${what}, got images without one`)
  const among = (what: string, set: Dataset | undefined) => set && inClasses(name, what, set, classNames)
  const sets = { validation: among('validation', validation), test: among('test', test) }
  const digest = [digestOf(train), sets.validation ? digestOf(sets.validation) : ''].join(':')
  return { name, classes: { classNames, templates }, digest, train, ...sets }
}

/** A set of a task among the classes that train, of which it may lack some. @throws E_DATA where it has others */
function inClasses(name: string, what: string, set: Dataset, classNames: readonly string[]): Dataset {
  const found = amongClasses(set, classNames)
  if (found === undefined) refuseClasses(name, classNames, `the ${what} set to have the classes of train`, set.classNames)
  return found
}

/**
 * The test set of a task that was learned before; undefined when its files are gone or hold other classes now.
 * @param options `images`: as many as were looked at before, where it never had images of all classes
 */
export async function openTest(
  spec: TaskSpec,
  classes: TaskClasses,
  { images, ...options }: OpenTasksOptions & { readonly images?: number } = {},
): Promise<Dataset | undefined> {
  try {
    const whole = typeof spec.test === 'string' ? undefined : await openSet(spec.train, spec, options)
    const { test } = await setTestApart(spec, whole, options)
    const there = spec.classes?.filter((wanted) => test.classNames.includes(wanted))
    const data = there ? selectClasses(test, placesOf({ ...spec, classes: there }, test)) : test
    const same = data.classNames.length === classes.classNames.length || data.length === images
    return same ? amongClasses(data, classes.classNames) : undefined
  } catch (error) {
    if (isCambiumError(error) && ['E_NOT_FOUND', 'E_DATA', 'E_CLASS_NAMES'].includes(error.code)) return undefined
    throw error
  }
}

export async function openWatched(spec: WatchSpec, options: OpenTasksOptions = {}): Promise<WatchedSet> {
  return { name: spec.name, data: await openSet(spec.test, spec, options), spec }
}

async function openSet(
  path: string,
  { classNames, templates }: Pick<TaskSpec, 'classNames' | 'templates'>,
  { skipBroken }: OpenTasksOptions,
) {
  const names = typeof classNames === 'string' ? await readClassNames(classNames) : classNames
  const data = await openDataset(path, { classNames: names, templates, fallback: { templates: DEFAULT_TEMPLATES }, skipBroken })
  if (!data.labelled) throw new CambiumError('E_DATA', `${path}: expected a class for every image, got images without one`)
  return data
}

async function setTestApart({ test, ...spec }: TaskSpec, whole: Dataset | undefined, options: OpenTasksOptions) {
  if (typeof test === 'string') return { rest: whole as Dataset, test: await openSet(test, spec, options) }
  const { train, validation } = splitDataset(whole as Dataset, test, spec.splitSeed)
  return { rest: train, test: validation }
}

/** @param chosen of a set, what is of the classes that take part */
async function setValidationApart(spec: TaskSpec, rest: Dataset, chosen: (set: Dataset) => Dataset, options: OpenTasksOptions) {
  const data = chosen(rest)
  const { validation = spec.shots === undefined ? 0.1 : undefined, shots, validationShots = Math.min(shots ?? 0, 4) } = spec
  const { seed = 0 } = options
  if (typeof validation === 'string') {
    const own = inClasses(spec.name, 'validation', await openSet(validation, spec, options), rest.classNames)
    return { train: shots === undefined ? data : fewShot(data, shots, seed), validation: chosen(own) }
  }
  if (shots !== undefined && validation === undefined && validationShots > 0)
    return fewShotWithValidation(data, shots, validationShots, seed)
  const split = validation ? splitDataset(data, validation, spec.splitSeed) : { train: data, validation: undefined }
  return shots === undefined ? split : { ...split, train: fewShot(split.train, shots, seed) }
}

/** Indices of the classes that take part. @throws E_CLASS_NAMES for one that is not there */
function placesOf({ name, classes = [] }: TaskSpec, { classNames }: Dataset): number[] {
  return classes.map((wanted) => {
    const place = classNames.indexOf(wanted)
    if (place < 0) throw new CambiumError('E_CLASS_NAMES', `${name}: classes: expected names of classes, got ${JSON.stringify(wanted)}`)
    return place
  })
}

/** Class-incremental: the one dataset as tasks of `base`, then `increment` classes each (Rebuffi et al. 2017; PILOT). */
async function byClasses(stream: StreamSpec, options: OpenTasksOptions): Promise<TaskSpec[]> {
  const { tasks, increment = stream.base, base = increment, order = options.seed ?? 0 } = stream
  if (tasks.length !== 1) throw new CambiumError('E_OPTION', `tasks: expected the one dataset of class-incremental, got ${tasks.length}`)
  if (base === undefined || increment === undefined)
    throw new CambiumError('E_OPTION', 'increment: expected a number of classes for class-incremental, got none')
  const [spec] = tasks
  const names = spec.classes ?? (await openSet(spec.train, withDefaults(spec, stream), options)).classNames
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined)
    throw new CambiumError('E_CLASS_NAMES', `${spec.name}: expected a name of its own for each class, got ${JSON.stringify(twice)} twice`)
  const ordered = order === 'given' ? names : Array.from(shuffledOrder(names.length, 0, philoxRandom(order)), (i) => names[i])
  const starts = [0]
  while (starts[starts.length - 1] + (starts.length === 1 ? base : increment) < names.length)
    starts.push(starts[starts.length - 1] + (starts.length === 1 ? base : increment))
  return starts.map((start, t) => ({ ...spec, name: `${spec.name}-${t + 1}`, classes: ordered.slice(start, starts[t + 1]) }))
}

function requireSame(name: string, expected: readonly string[], what: string, got: readonly string[]): void {
  if (expected.join('\n') !== got.join('\n')) refuseClasses(name, expected, what, got)
}

function refuseClasses(name: string, expected: readonly string[], what: string, got: readonly string[]): never {
  throw new CambiumError('E_DATA', `${name}: expected ${what} (${expected.join(', ')}), got ${got.join(', ')}`)
}
