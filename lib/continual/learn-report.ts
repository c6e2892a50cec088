/** What a run over a stream of tasks measured: `learn.json` of its folder. Plain JSON; accuracies are fractions in [0, 1]. */

/** Accuracy on one set at one stage. */
export interface SetAccuracy {
  /** among the set's own classes (MTIL) */
  readonly own: number
  /** among the classes of all tasks (or of all tasks seen so far, in class-incremental protocols) */
  readonly union?: number
  readonly images: number
  /** of methods that select: images given to each task, and a histogram of the weight in twenty equal bins of [0, 1] */
  readonly selection?: { readonly tasks: readonly number[]; readonly weights: readonly number[] }
}

/** Accuracies by the name of the set, after a task. */
export interface LearnStage {
  /** the task that was learned last; -1: none yet, the pretrained model */
  readonly after: number
  /** classes among which `union` was decided */
  readonly unionClasses?: number
  /** sets that could not be looked at any more (a run that was continued without their files) are absent */
  readonly sets: Readonly<Record<string, SetAccuracy>>
}

/** What learning a task took. */
export interface LearnedTask {
  readonly name: string
  readonly classes: number
  /** images */
  readonly train: number
  /** images */
  readonly validation: number
  readonly steps: number
  /** of training */
  readonly seconds: number
  /** parameters that trained */
  readonly trained: number
}

/** `learn.json`: everything that was measured over a stream. */
export interface LearnReport {
  readonly version: 1
  /** version that wrote it */
  readonly cambium: string
  /** folder of the pretrained model */
  readonly model: string
  readonly method: string
  /** how the method is called in tables */
  readonly label: string
  readonly seed: number
  readonly protocol: 'domain-class-incremental' | 'class-incremental' | 'domain-incremental'
  /** of the method */
  readonly settings: Readonly<Record<string, unknown>>
  readonly tasks: readonly LearnedTask[]
  /** sets that are looked at: the test set of each task in order (`task` is its index), then watched sets (`task` null) */
  readonly sets: readonly { readonly name: string; readonly task: number | null; readonly classes: number; readonly images: number }[]
  /** stages[0] is the pretrained model, stages[t + 1] after task t */
  readonly stages: readonly LearnStage[]
  /**
   * Mean over the tasks learned of the accuracy on their validation sets at the last stage (own classes; class-incremental: the union):
   * what settings are chosen by. Absent without validation sets and in a run that is not done.
   */
  readonly validation?: number
  /** that trained, of all tasks together */
  readonly parameters: number
  /** the core's largest use of memory, bytes */
  readonly peakBytes: number
}
