/**
 * `predictions.jsonl` of a run: what each model said of each image of each set. A line with an object begins a set; the lines
 * with arrays after it are its images: [id, true class, [prediction of each model]], or for retrieval [id, first caption,
 * [rank of each model]], with the image's path as a fourth entry where it is not the set's folder and the id (empty: no file).
 */
import { join, resolve } from 'node:path'
import { readLines } from '../data/rows.js'
import { CambiumError, isCambiumError, messageOf } from '../errors.js'
import { AtomicFile } from '../formats/atomic-file.js'
import { isJsonObject } from '../formats/json-fields.js'
import type { EvaluationSet, Predictions } from './evaluate.js'

export const PREDICTION_FILE = 'predictions.jsonl'

export interface PredictedSet {
  readonly set: string
  readonly task: 'classification' | 'retrieval'
  readonly classes: readonly string[]
  /** Folder that ids are paths in, if they are. */
  readonly folder?: string
  /** α of each model. */
  readonly alphas: readonly number[]
}

export interface PredictedImage {
  readonly id: string
  /** Of classification. */
  readonly label?: number
  /** Of retrieval. */
  readonly caption?: string
  /** Predicted class, or rank from 1, by each model. */
  readonly values: readonly number[]
  /** Path of the image, when it came from a file. */
  readonly image?: string
}

/** Gathers predictions of several models over the same sets, and writes them. */
export class PredictionRecord {
  readonly #sets = new Map<EvaluationSet, { alphas: number[]; predictions: Predictions[] }>()

  add(set: EvaluationSet, alpha: number, predictions: Predictions): void {
    const known = this.#sets.get(set) ?? { alphas: [], predictions: [] }
    known.alphas.push(alpha)
    known.predictions.push(predictions)
    this.#sets.set(set, known)
  }

  /** @throws E_IO, E_NO_SPACE; the file that was there then stays */
  async write(folder: string): Promise<void> {
    const file = await AtomicFile.open(join(folder, PREDICTION_FILE))
    try {
      for (const [set, { alphas, predictions }] of this.#sets) await file.write(Buffer.from(linesOf(set, alphas, predictions)))
      await file.commit()
    } finally {
      await file.abort()
    }
  }
}

function linesOf({ name, data }: EvaluationSet, alphas: readonly number[], predictions: readonly Predictions[]): string {
  const [{ task, samples }] = predictions
  const paths = data.samples.map(({ image }) => (typeof image === 'string' ? resolve(image) : undefined))
  const folder = folderOf(
    data.samples.map(({ id }) => id),
    paths,
  )
  const head = { set: name, task, classes: task === 'classification' ? data.classNames : [], ...(folder ? { folder } : {}), alphas }
  const rows = Array.from(samples, (sample, row) => {
    const { id, label, captions } = data.samples[sample]
    const path = paths[sample]
    const guessed = folder === undefined ? undefined : join(folder, id)
    return [
      id,
      task === 'classification' ? label : (captions?.[0] ?? ''),
      predictions.map(({ values }) => values[row]),
      ...(guessed === path ? [] : [path ?? '']),
    ]
  })
  return [head, ...rows].map((line) => `${JSON.stringify(line)}\n`).join('')
}

function folderOf([id]: readonly string[], [path]: readonly (string | undefined)[]): string | undefined {
  return path !== undefined && path.length > id.length && path.endsWith(id) ? path.slice(0, -id.length) : undefined
}

/**
 * Reads the file of a run, set by set.
 * @throws E_NOT_FOUND, E_IO; E_DATA names a line that is neither
 */
export async function readPredictions(folder: string): Promise<(PredictedSet & { readonly images: readonly PredictedImage[] })[]> {
  const path = join(folder, PREDICTION_FILE)
  const sets: (PredictedSet & { readonly images: PredictedImage[] })[] = []
  let number = 0
  try {
    for await (const line of readLines(path)) {
      number++
      const value: unknown = JSON.parse(line)
      const last = sets.at(-1)
      if (isSet(value)) sets.push({ ...value, images: [] })
      else if (last !== undefined && isImage(value, last)) last.images.push(imageOf(value, last))
      else throw new SyntaxError('another value')
    }
  } catch (error) {
    if (isCambiumError(error)) throw error
    if (error instanceof SyntaxError)
      throw new CambiumError('E_DATA', `${path}, line ${number}: expected a set or an image, got ${error.message}`)
    const missing = (error as { code?: unknown }).code === 'ENOENT'
    throw new CambiumError(missing ? 'E_NOT_FOUND' : 'E_IO', `${path}: ${messageOf(error)}`, { cause: error })
  }
  return sets
}

type Row = [string, number | string, number[], string?]

const isNumbers = (value: unknown): value is number[] => Array.isArray(value) && value.every((entry) => typeof entry === 'number')

function isSet(value: unknown): value is PredictedSet {
  if (!isJsonObject(value) || typeof value.set !== 'string' || !isNumbers(value.alphas)) return false
  const { classes, task, folder } = value
  if (!Array.isArray(classes) || !classes.every((name) => typeof name === 'string')) return false
  return (task === 'classification' || task === 'retrieval') && (folder === undefined || typeof folder === 'string')
}

function isImage(value: unknown, { task, classes, alphas }: PredictedSet): value is Row {
  if (!Array.isArray(value) || typeof value[0] !== 'string' || !isNumbers(value[2]) || value[2].length !== alphas.length) return false
  if (value[3] !== undefined && typeof value[3] !== 'string') return false
  if (task === 'retrieval') return typeof value[1] === 'string'
  return [value[1], ...value[2]].every((label) => Number.isInteger(label) && label >= 0 && label < classes.length)
}

function imageOf([id, about, values, path]: Row, { folder }: PredictedSet): PredictedImage {
  const image = path ?? (folder === undefined ? undefined : join(folder, id))
  return { id, ...(typeof about === 'number' ? { label: about } : { caption: about }), values, ...(image ? { image } : {}) }
}
