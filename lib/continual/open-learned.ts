// What a run has learned, opened for use: the model with its method, and every class that it was taught.
import { fingerprint } from '../checkpoint/fingerprint.js'
import { Dataset } from '../data/dataset.js'
import { type ImageSource, imageName } from '../data/decode.js'
import { CambiumError } from '../errors.js'
import { Clip, type ClipOptions } from '../models/clip.js'
import { argmax } from '../train/metrics.js'
import { unionOf } from './evaluate-stage.js'
import {
  checkSameLearner,
  dtypeOf,
  imageSizeOf,
  type LearnState,
  readLearnState,
  restoreLearner,
  runFolders,
  settingsOf,
} from './learn-state.js'
import type { ClassPrompts, Learner, ScoreOptions } from './learner.js'
import { createLearner } from './learners/registry.js'
import type { TaskClasses } from './tasks.js'

/** The class that an image was given. */
export interface Prediction {
  readonly label: string
  /** the score that decided: the cosine of image and class */
  readonly score: number
  /** of methods that select: the task whose parameters the image was given, and how much of them, in [0, 1] */
  readonly task?: string
  readonly weight?: number
}

/** A run of `learn` in use: model, method and classes. Disposed by whoever opened it. */
export interface Learned {
  /** of the run */
  readonly folder: string
  readonly clip: Clip
  readonly learner: Learner
  /** in the order in which they were learned */
  readonly tasks: readonly ({ readonly name: string } & TaskClasses)[]
  /** of all tasks; equal names are one class */
  readonly classes: readonly ClassPrompts[]
  /**
   * The most likely class of each image, each by itself.
   * @param images paths or encoded images
   * @param classes default all that were learned; any others are told by their prompts, as before
   * @throws E_IMAGE for an image that cannot be decoded, E_DATA without classes
   */
  predict(images: readonly ImageSource[], classes?: readonly ClassPrompts[], options?: ScoreOptions): Promise<Prediction[]>
  /** Frees model and method. */
  dispose(): void
}

/**
 * Opens the folder of a run, finished or stopped: what it knew after the last task that it learned.
 * @param options `dtype`: default that of the run; `model`: its folder, when it is no longer where it was
 * @throws E_NOT_FOUND for a folder without a run, E_BASE for another model, E_RUN for a malformed state
 */
export async function openLearned(
  folder: string,
  { model, ...options }: Pick<ClipOptions, 'dtype'> & { model?: string } = {},
): Promise<Learned> {
  const saved = await readLearnState(folder)
  if (!saved) throw new CambiumError('E_NOT_FOUND', await whyNoRun(folder))
  const clip = await Clip.load(model ?? saved.model, { dtype: options.dtype ?? dtypeOf(saved), imageSize: imageSizeOf(saved) })
  try {
    const base = await fingerprint(clip.weights.checkpoint)
    const learner = await createLearner(clip, saved.method, saved.options, { seed: saved.seed, askOnly: true })
    try {
      // What only training needs was not opened and is not known: it may be anything. So may the operands.
      const known = Object.entries(settingsOf(clip, learner)).filter(([key, value]) => key !== 'dtype' && value !== undefined)
      checkSameLearner(saved, { ...saved, base, settings: { ...saved.settings, ...Object.fromEntries(known) } })
      await restoreLearner(folder, saved, learner)
      return opened(folder, clip, learner, saved)
    } catch (error) {
      learner.dispose()
      throw error
    }
  } catch (error) {
    clip.dispose()
    throw error
  }
}

async function whyNoRun(folder: string): Promise<string> {
  const below = await runFolders(folder)
  if (below.length === 0) return `${folder}: expected a run of learn, got none`
  return `${folder}: expected one run of learn, got a folder with ${below.length} of them: give one, such as ${below[0]}`
}

function opened(folder: string, clip: Clip, learner: Learner, saved: LearnState): Learned {
  const tasks = saved.tasks.map(({ name, classNames, templates }) => ({ name, classNames, templates }))
  const { classes: known } = unionOf(tasks.map((classes) => ({ classes })))
  return {
    folder,
    clip,
    learner,
    tasks,
    classes: known,
    async predict(images, classes = known, options = {}) {
      if (images.length === 0) return []
      if (classes.length === 0) throw new CambiumError('E_DATA', 'classes: expected at least one, got none')
      const data = new Dataset(images.map((image, i) => ({ id: `${i} ${imageName(image)}`, image })))
      const found: { label: string; score: number }[] = []
      const visit = (scores: Float32Array, _: number, rows: number) => {
        for (let row = 0; row < rows; row++) {
          const best = argmax(scores, row * classes.length, classes.length)
          found.push({ label: classes[best].name, score: scores[row * classes.length + best] })
        }
      }
      const { selection } = await learner.score(data, classes, visit, { ...options, skipBroken: false })
      const chosen = (i: number) => (selection ? { task: tasks[selection.task[i]].name, weight: selection.weight[i] } : {})
      return found.map((one, i) => ({ ...one, ...chosen(i) }))
    },
    dispose() {
      learner.dispose()
      clip.dispose()
    },
  }
}
