// What a run tells while it goes on: plain objects, safe to log as JSON lines.
export interface StartEvent {
  readonly type: 'start'
  readonly steps: number
  /** steps done before, when resumed */
  readonly from: number
  readonly trainable: number
  readonly momentum?: number
  /** why a resumed run may not end with the same bits */
  readonly warning?: string
}

export interface StepEvent {
  readonly type: 'step'
  /** 1 … steps */
  readonly step: number
  readonly steps: number
  readonly epoch: number
  readonly loss: number
  readonly lr: number
  /** global norm before clipping */
  readonly gradientNorm: number
  readonly imagesPerSecond: number
  readonly skipped: number
}

export interface CheckpointEvent {
  readonly type: 'checkpoint'
  readonly step: number
  readonly folder: string
}

/** With `keepBest`: what an epoch (from 0) scored, and whether it is the best so far. */
export interface ScoredEvent {
  readonly type: 'scored'
  readonly step: number
  readonly epoch: number
  readonly score: number
  readonly best: boolean
}

/** On a GPU: why the steps from here on are queued kernel by kernel, where a captured one would be replayed. The same numbers, slower. */
export interface PlainEvent {
  readonly type: 'plain'
  readonly step: number
  readonly reason: string
}

export interface EndEvent {
  readonly type: 'end'
  readonly step: number
  /** 'aborted': stopped by its signal, after a checkpoint when there is a folder */
  readonly reason: 'done' | 'aborted'
  readonly seconds: number
  readonly peakBytes: number
}

/** What {@link Trainer.run} tells; the last of every run that does not throw is an `end`. */
export type TrainEvent = StartEvent | StepEvent | PlainEvent | ScoredEvent | CheckpointEvent | EndEvent

/** In the log of a run: an image that could not be read was left out. */
export interface SkippedEvent {
  readonly type: 'skipped'
  readonly image: string
  readonly reason: string
}

/** In the log of a run: the one number of each set, for the model as it was (step 0) and for the merged model. */
export interface EvaluatedEvent {
  readonly type: 'evaluated'
  readonly step: number
  readonly alpha: number
  readonly scores: Readonly<Record<string, number>>
}
