/**
 * Splits and few-shot subsets drawn by hash: they depend on the seed and on each sample's own id, not on the order or number
 * of the others, and are the same on every machine. More shots contain fewer shots of the same seed.
 */
import { createHash } from 'node:crypto'
import { CambiumError } from '../errors.js'
import { Dataset } from './dataset.js'

export interface Split {
  readonly train: Dataset
  readonly validation: Dataset
}

/**
 * Sets apart `share` of each class (of all samples where there are no labels), at least one sample of a class that has two.
 * Errors: E_OPTION for a share outside (0, 1).
 */
export function splitDataset(dataset: Dataset, share: number, seed = 0): Split {
  if (!(share > 0 && share < 1)) throw new CambiumError('E_OPTION', `validation: expected a share between 0 and 1, got ${share}`)
  const held = new Set<number>()
  for (const indices of drawnByClass(dataset, `split ${seed}`)) {
    const wanted = Math.max(1, Math.round(indices.length * share))
    for (const index of indices.slice(0, Math.min(wanted, indices.length - 1))) held.add(index)
  }
  const all = [...dataset.samples.keys()]
  return {
    train: dataset.subset(all.filter((index) => !held.has(index))),
    validation: dataset.subset(all.filter((index) => held.has(index))),
  }
}

/** `shots` samples of each class, in the order of the whole set. Errors: E_OPTION; E_DATA names a class with too few. */
export function fewShot(dataset: Dataset, shots: number, seed = 0): Dataset {
  if (!Number.isInteger(shots) || shots < 1)
    throw new CambiumError('E_OPTION', `shots: expected a whole number of at least 1, got ${shots}`)
  const labels = dataset.labels()
  const chosen: number[] = []
  for (const indices of drawnByClass(dataset, `shots ${seed}`)) {
    if (indices.length < shots) {
      throw new CambiumError(
        'E_DATA',
        `shots: expected ${shots} images of class ${JSON.stringify(dataset.classNames[labels[indices[0]]])}, got ${indices.length}`,
      )
    }
    chosen.push(...indices.slice(0, shots))
  }
  return dataset.subset(chosen.sort((a, b) => a - b))
}

/** The indices of each class in the order of their hashes. */
function drawnByClass(dataset: Dataset, key: string): number[][] {
  const classes = new Map<number, { index: number; hash: string }[]>()
  for (const [index, { id, label }] of dataset.samples.entries()) {
    const hash = createHash('sha256').update(`${key}\0${id}`).digest('hex')
    const drawn = classes.get(label ?? -1)
    if (drawn === undefined) classes.set(label ?? -1, [{ index, hash }])
    else drawn.push({ index, hash })
  }
  const byHash = (a: { hash: string; index: number }, b: { hash: string; index: number }) =>
    a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : a.index - b.index
  return Array.from(classes.values(), (drawn) => drawn.sort(byHash).map(({ index }) => index))
}

/**
 * `shots` images of each class for training and `validationShots` others of it for choosing settings, drawn from one set.
 * Errors: E_OPTION; E_DATA names a class with too few.
 */
export function fewShotWithValidation(dataset: Dataset, shots: number, validationShots: number, seed = 0): Split {
  const train = fewShot(dataset, shots, seed)
  const kept = new Set(train.samples)
  const both = fewShot(dataset, shots + validationShots, seed)
  return { train, validation: both.subset([...both.samples.keys()].filter((index) => !kept.has(both.samples[index]))) }
}

/** The samples of some classes, which alone remain and keep their order: a task of its own. Errors: E_DATA for no class. */
export function selectClasses(dataset: Dataset, classes: readonly number[]): Dataset {
  if (classes.length === 0) throw new CambiumError('E_DATA', 'classes: expected at least one to be left, got none')
  const place = new Map(classes.map((label, index) => [label, index]))
  const samples = dataset.samples.flatMap((sample) => {
    const label = place.get(sample.label ?? -1)
    return label === undefined ? [] : [{ ...sample, label }]
  })
  const { templates, skipBroken } = dataset
  return new Dataset(samples, { templates, skipBroken, classNames: classes.map((label) => dataset.classNames[label]) })
}

/**
 * The same samples among other classes, which hold its own by name: a test set without images of some classes is still judged among
 * all of them. The set itself where these are its own; undefined where a class is not among them, or a name not unique.
 */
export function amongClasses(dataset: Dataset, classNames: readonly string[]): Dataset | undefined {
  const own = dataset.classNames
  if (own.length === classNames.length && own.every((name, i) => name === classNames[i])) return dataset
  const places = own.map((name) => classNames.indexOf(name))
  if (places.includes(-1) || new Set(places).size < own.length || new Set(classNames).size < classNames.length) return undefined
  const samples = dataset.samples.map((sample) => (sample.label === undefined ? sample : { ...sample, label: places[sample.label] }))
  return new Dataset(samples, { templates: dataset.templates, skipBroken: dataset.skipBroken, classNames })
}
