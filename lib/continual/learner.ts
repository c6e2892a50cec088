/**
 * A continual method as the loop sees it: decisions over the shared parts (objectives, statistics, selectors, consolidation).
 * The loop owns order, data, training, evaluation, checkpoints and metrics; a learner owns none of them.
 */
import type { Dataset } from '../data/dataset.js'
import type { Method } from '../injection/injection.js'
import type { Objective } from '../objectives/objective.js'
import type { Parameter, Tensor } from '../tensor.js'
import type { BesideLoad } from '../train/estimate.js'
import type { EncodeOptions, ImageFeatures } from '../train/features.js'
import type { TrainerOptions } from '../train/train.js'

/** One of the tasks, in the order in which they come. Labels count the task's own classes. */
export interface LearnTask {
  /** t, from 0 */
  readonly index: number
  readonly name: string
  readonly train: Dataset
  /** chooses settings and epochs; test images choose nothing */
  readonly validation?: Dataset
  /** the tasks before it, with their data: the loop gives them for joint training, the upper bound, and no other method may look */
  readonly previous?: readonly LearnTask[]
  /** no task follows in this run */
  readonly last?: boolean
}

/** A class as it is said to the text tower: the normalised mean of the features of its prompts is its row of the head. */
export interface ClassPrompts {
  readonly name: string
  readonly prompts: readonly string[]
}

/** What the trainer does for one task. */
export interface TaskTraining {
  /** what trains */
  readonly method: Method
  /** the loss of a batch */
  readonly objective: Objective
  /** what differs from the trainer's defaults: optimizer, rate, epochs, batch, terms, texts of the classes …; `data` in the task's place */
  readonly options: Partial<TrainerOptions>
  /** validation accuracy after each epoch decides which epoch is kept (DIKI's recipe); default: the last */
  readonly keepBest?: boolean
  /** what it takes from `begin` to `end` that the trainer knows nothing of; for the estimate of memory and time */
  readonly beside?: BesideLoad
}

/** Which task's parameters an image was given, and how much of them. */
export interface Selection {
  /** i32 [N]: a task learned so far */
  readonly task: Int32Array
  /** f32 [N], in [0, 1] */
  readonly weight: Float32Array
}

export interface ScoreOptions extends EncodeOptions {
  /** the true task of every image (oracle: training and its validation only) */
  readonly task?: number
}

/** What `score` found besides the scores. */
export interface Scored {
  /** [N], index in the set of each scored image */
  readonly samples: Int32Array
  /** images that could not be decoded */
  readonly skipped: number
  /** of methods that select, aligned with `samples` */
  readonly selection?: Selection
}

export interface LearnerState {
  readonly json: Readonly<Record<string, unknown>>
  readonly tensors: readonly Parameter[]
  /** statistics in host memory: written beside the tensors as F64, one dimension each */
  readonly doubles?: ReadonlyMap<string, Float64Array>
}

export type StateReader = (name: string) => Promise<{ shape: readonly number[]; data: Float32Array }>
export type DoublesReader = (name: string) => Promise<Float64Array>

/** A continual method: its decisions before, after and between tasks. What it trains, {@link learn} trains. */
export interface Learner {
  /** the name in run files */
  readonly name: string
  /** what must be the same when a run is continued */
  readonly settings: Readonly<Record<string, unknown>>
  /**
   * Before a task: allocates what trains, takes snapshots, fits statistics; a function of the state, the task and the seed. A run that
   * was stopped within a task begins it again from the state before it, and the trainer then goes on from its checkpoint.
   * @returns undefined where nothing trains
   */
  begin(task: LearnTask, options: EncodeOptions): Promise<TaskTraining | undefined>
  /** After a task: consolidates. What the optimizer averaged is given by name. */
  end(task: LearnTask, averages?: ReadonlyMap<string, Tensor>): Promise<void>
  /**
   * Scores of every image of a set for every class with the model as it is now, in blocks of whole rows: scores [rows, C],
   * of the images that start at `first` among those that could be read. No result depends on the batch or the order of images.
   */
  score(
    data: Dataset,
    classes: readonly ClassPrompts[],
    visit: (scores: Float32Array, first: number, rows: number) => void,
    options?: ScoreOptions,
  ): Promise<Scored>
  /** Of methods that choose for each image: its features as `score` reads them, and what was chosen. Absent where the model's own serve. */
  encode?(data: Dataset, options?: EncodeOptions): Promise<ImageFeatures & Pick<Scored, 'selection'>>
  /** images that stand in one block of so many, in the set's order, are answered together; absent: each by itself */
  readonly block?: number
  /** All that a later task or a later day needs, by name, beside the pretrained model; bytes of finished tasks do not change. */
  state(): LearnerState
  /** Takes back what `state` gave. */
  restore(json: Readonly<Record<string, unknown>>, read: StateReader, readDoubles: DoublesReader): Promise<void>
  /** the model's own weights are all that was learned: `clip.save` writes an ordinary checkpoint of it */
  readonly plain?: boolean
  /** trained parameters so far, all tasks together */
  readonly parameterCount: number
  /** Frees what it allocated; the model is not its own. */
  dispose(): void
}
