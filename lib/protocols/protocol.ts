// What a protocol is: tasks (what trains, what chooses, what is only looked at) for every dataset, number of shots and seed.
// A method is trained on each task; the tables say what came out, as the papers print them.
import type { Dataset } from '../data/dataset.js'
import type { EvaluationSet } from '../train/evaluate.js'
import type { NamedPath } from '../train/fine-tune-data.js'
import type { MethodOptions } from '../train/fine-tune-method.js'
import type { CellResult } from './cells-file.js'

export const PROTOCOLS = ['few-shot', 'base-to-novel', 'cross-dataset', 'retrieval'] as const
export type ProtocolName = (typeof PROTOCOLS)[number]

/** A dataset of a comparison, as paths. */
export interface ProtocolDataset {
  readonly name: string
  /** Image folder, CSV or JSONL. */
  readonly train: string
  readonly test: string
  /** Chooses settings; without it, images of `train` that do not train do. */
  readonly validation?: string
}

/** One method of the comparison. */
export interface ProtocolMethod extends MethodOptions {
  /** As the tables call it. */
  readonly name: string
  /** Several: the one with the best validation score of the first seed is taken. Default: the method's. */
  readonly rates?: readonly number[]
  /** Default: the method's, of its paper. */
  readonly weightDecay?: number
  /** Running average of what trains: false, true (momentum by the length of the run) or a momentum. Default of its paper. */
  readonly ema?: boolean | number
  /**
   * What is evaluated: an α, or the one that is best on validation. Default: `validation` for what the paper scales
   * (R-Adapter), 1 and `validation` (WiSE-FT) for full fine-tuning, 1 for the rest.
   */
  readonly alphas?: readonly (number | 'validation')[]
  /** Over those of the protocol. */
  readonly epochs?: number
}

/** A comparison of methods by the protocol of a paper, as paths. */
export interface ProtocolOptions {
  readonly protocol: ProtocolName
  /** Folder of the pretrained CLIP. */
  readonly model: string
  /** Folder for results; a run that was stopped goes on where it was. */
  readonly out: string
  /** Cross-dataset and retrieval train on the first one alone. */
  readonly datasets: readonly ProtocolDataset[]
  /** Sets that every model is looked at on besides: other domains, or what was known before. */
  readonly ood?: readonly NamedPath[]
  readonly methods: readonly ProtocolMethod[]
  /** Images of each class that train. Default 16 (few-shot: 1, 2, 4, 8, 16); cross-dataset and retrieval: all. */
  readonly shots?: readonly number[]
  /** Default 0, 1, 2. */
  readonly seeds?: readonly number[]
  /** Default 50, as the paper's 16-shot runs. */
  readonly epochs?: number
  /** Default 32; at most the images of a task. */
  readonly batch?: number
  /** Steps; default a tenth of the run, at most 500. */
  readonly warmup?: number
  /** The α that are tried on validation. Default 0, 0.1, …, 1. */
  readonly tried?: readonly number[]
  /** Prompts with one {} for the class; default those of each set, else `a photo of a {}.` */
  readonly templates?: readonly string[]
  /** Operands of products; default bf16 where the device multiplies it natively, else f32. */
  readonly dtype?: 'f32' | 'bf16'
  /** Another image side than the checkpoint's. */
  readonly imageSize?: number
  /** Bytes; a cell that is estimated to need more is refused. Default: what is free. */
  readonly memoryBudget?: number
  /** Leave out images that cannot be decoded. */
  readonly skipBroken?: boolean
  /** Turn images as their EXIF orientation says. */
  readonly exif?: boolean
  /** Stops; finished cells are kept. */
  readonly signal?: AbortSignal
  /** told of every training and every result */
  readonly onEvent?: (event: ProtocolEvent) => void
}

/** What a protocol tells on its way: plain objects. */
export type ProtocolEvent =
  | { readonly type: 'cell'; readonly cell: number; readonly cells: number; readonly task: string; readonly method: string }
  | { readonly type: 'step'; readonly label: string; readonly step: number; readonly steps: number }
  | { readonly type: 'evaluate'; readonly label: string; readonly done: number; readonly total: number }
  | { readonly type: 'result'; readonly result: CellResult; readonly fromBefore: boolean }

/** One thing to train on. */
export interface Task {
  /** Unique in the protocol: dataset and shots. */
  readonly name: string
  readonly dataset: string
  readonly shots?: number
  readonly seed: number
  readonly train: Dataset
  readonly validation?: EvaluationSet
  readonly tests: readonly EvaluationSet[]
}

/** The datasets of a protocol, opened. */
export interface OpenDatasets {
  readonly datasets: readonly { readonly name: string; readonly train: Dataset; readonly validation?: Dataset; readonly test: Dataset }[]
  readonly ood: readonly EvaluationSet[]
}

export interface Protocol {
  readonly name: ProtocolName
  /** What it measures, and the paper that it is from. */
  readonly about: string
  /** Of what is absent in the options; undefined shots: every image trains. */
  readonly shots: readonly (number | undefined)[]
  /** The tasks of one number of shots and one seed. */
  tasks(open: OpenDatasets, shots: number | undefined, seed: number): Task[]
  tables(tasks: readonly Task[], open: OpenDatasets): Table[]
}

/** A row of a table: a method at an α, over the seeds. */
export interface Row {
  readonly name: string
  /** The measure on a task, one number a seed (the pretrained model: one). */
  scores(task: Task, measure: string): readonly number[]
}

export interface Table {
  readonly title: string
  readonly columns: readonly { readonly head: string; value(row: Row): string }[]
}
