/** The sets of a fine-tuning run: what trains, what chooses, what is only looked at. */
import type { ClassNames } from '../data/class-names.js'
import type { Dataset } from '../data/dataset.js'
import { openDataset } from '../data/open-dataset.js'
import { amongClasses, fewShot, splitDataset } from '../data/splits.js'
import { CambiumError } from '../errors.js'
import type { EvaluationSet } from './evaluate.js'
import { DEFAULT_TEMPLATES } from './features.js'

export interface NamedPath {
  readonly name: string
  readonly path: string
}

export interface FineTuneDataOptions {
  /** Image folder, CSV or JSONL. */
  data: string
  /** A set of its own that chooses α; among the classes of `data`, as tests. */
  validation?: string
  /** Share of `data` set apart for that when there is no such set. Default 0.1; 0: none. */
  validationShare?: number
  /** Images of each class that train, drawn by `seed`. */
  shots?: number
  /** Test sets of the same task: judged among the classes of `data` where these hold their own. */
  tests?: readonly NamedPath[]
  /** Others, each among its own classes. */
  ood?: readonly NamedPath[]
  /** Captioned sets, for retrieval. */
  captions?: readonly NamedPath[]
  classNames?: ClassNames
  templates?: readonly string[]
  skipBroken?: boolean
  exif?: boolean
  seed?: number
}

export interface FineTuneSet extends EvaluationSet {
  /** `test`: of the same task as training; `ood`: of another distribution; `captions`: for retrieval. */
  readonly role: 'validation' | 'test' | 'ood' | 'captions'
}

export interface FineTuneData {
  readonly train: Dataset
  readonly validation?: FineTuneSet
  readonly tests: readonly FineTuneSet[]
}

/** What is looked at after training. */
export const setsOf = ({ validation, tests }: FineTuneData): FineTuneSet[] => [...(validation ? [validation] : []), ...tests]

/** @throws E_NOT_FOUND, E_DATA, E_OPTION for a share outside [0, 1) or a name used twice */
export async function openFineTuneData(options: FineTuneDataOptions): Promise<FineTuneData> {
  const { skipBroken, validationShare = 0.1, shots, seed = 0, classNames } = options
  const fallback = { templates: DEFAULT_TEMPLATES }
  const whole = await openDataset(options.data, { classNames, templates: options.templates, fallback, skipBroken })
  const { templates } = whole
  const open = (path: string) => openDataset(path, { templates: options.templates, fallback: { classNames, templates }, skipBroken })
  /** Of the same task: a class without images there is an answer all the same. */
  const openOfTask = async (path: string) => {
    const set = await open(path)
    return (set.labelled && amongClasses(set, whole.classNames)) || set
  }
  const own = options.validation !== undefined
  const split = own || validationShare === 0 ? { train: whole, validation: undefined } : splitDataset(whole, validationShare, seed)
  const validation = options.validation === undefined ? split.validation : await openOfTask(options.validation)
  const as = (role: FineTuneSet['role'], sets: readonly NamedPath[] = []) => sets.map((set) => ({ ...set, role }))
  const tests: FineTuneSet[] = []
  for (const { name, path, role } of [...as('test', options.tests), ...as('ood', options.ood), ...as('captions', options.captions)]) {
    if (name === 'validation' || tests.some((set) => set.name === name))
      throw new CambiumError('E_OPTION', `sets: expected a name of its own for each, got ${JSON.stringify(name)} twice`)
    tests.push({
      name,
      role,
      data: await (role === 'test' ? openOfTask : open)(path),
      ...(role === 'captions' ? { task: 'retrieval' as const } : {}),
    })
  }
  return {
    train: shots === undefined ? split.train : fewShot(split.train, shots, seed),
    ...(validation === undefined || validation.length === 0
      ? {}
      : { validation: { name: 'validation', role: 'validation' as const, data: validation } }),
    tests,
  }
}
