/**
 * Which task's parameters an image is given, and how much of them, by the log density of its frozen feature under each learned
 * task's Gaussian (DIKI, ECCV 2024, §3.3): the densest task, weight σ(slope · (s/D − offset)). Per image; the authors' code differs in
 * two ways that are options here, `vote` and `textWeight`, and make a result depend on the images that stand beside it.
 */
import { CambiumError } from '../errors.js'
import { weightOf } from '../statistics/calibration.js'
import type { Selection } from './learner.js'
import type { TaskDensity } from './task-density.js'

/** Where the authors' code of DIKI differs from the paper, by name; the defaults are the paper's, each image by itself. */
export interface SelectorOptions {
  /** 'batch': each block of `voteBatch` images in the set's order is given the task that most of them chose (the authors' code). Default 'sample'. */
  vote?: 'sample' | 'batch'
  /** 'batch-mean': the text tower's weight is the mean over such a block (the authors' code). Default 'sample': the image's own. */
  textWeight?: 'sample' | 'batch-mean'
  /** Default 256, the authors' test batch. */
  voteBatch?: number
}

/** Task and weights of each image. */
export interface TaskSelection extends Selection {
  /** f32 [N]: weight in the text tower */
  readonly textWeight: Float32Array
}

/**
 * The densest task of each image, and its weight.
 * @param features frozen features f32 [N, D], normalised
 * @param tasks at least one
 * @throws E_OPTION for a voteBatch that is no positive integer
 */
export async function selectTasks(
  features: Float32Array,
  tasks: readonly TaskDensity[],
  options: SelectorOptions = {},
): Promise<TaskSelection> {
  const { vote = 'sample', textWeight = 'sample', voteBatch = 256 } = options
  if (!Number.isInteger(voteBatch) || voteBatch < 1)
    throw new CambiumError('E_OPTION', `voteBatch: expected a positive integer, got ${voteBatch}`)
  const dimension = tasks[0].gaussian.dimension
  const densities = await Promise.all(tasks.map(({ gaussian }) => gaussian.logDensity(features)))
  const task = new Int32Array(densities[0].length)
  for (let i = 0; i < task.length; i++) for (let t = 1; t < tasks.length; t++) if (densities[t][i] > densities[task[i]][i]) task[i] = t
  const weight = Float32Array.from(task, (t, i) => weightOf(densities[t][i], dimension, tasks[t].calibration))
  const text = textWeight === 'sample' ? weight : weight.slice()
  for (let first = 0; first < task.length; first += voteBatch) {
    const block = [first, Math.min(task.length, first + voteBatch)] as const
    if (vote === 'batch') task.fill(majority(task.subarray(...block)), ...block)
    if (textWeight === 'batch-mean') text.fill(mean(weight.subarray(...block)), ...block)
  }
  return { task, weight, textWeight: text }
}

/** The most frequent value, of equals the smallest. */
function majority(values: Int32Array): number {
  const counts = new Int32Array(values.reduce((most, value) => Math.max(most, value), 0) + 1)
  for (const value of values) counts[value]++
  return counts.indexOf(counts.reduce((most, count) => Math.max(most, count)))
}

const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length
