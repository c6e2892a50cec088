/**
 * What methods that go on training the whole model have in common (sequential, LwF, ZSCL, WiSE-FT, joint): every weight of both towers
 * but the temperature, cross-entropy over the classes of the task in its first template, AdamW, a cosine; the recipe of ZSCL's
 * comparison (Zheng et al. 2023, §5.1): rate 1e-5, batch 64, no decay, label smoothing 0.2. A method adds its own to a task.
 */
import { z } from 'zod'
import { FullFineTuning } from '../../methods/full-fine-tuning.js'
import type { Clip } from '../../models/clip.js'
import { ClassCrossEntropy } from '../../objectives/cross-entropy.js'
import type { Parameter } from '../../tensor.js'
import type { EncodeOptions } from '../../train/features.js'
import { cosineScores } from '../cosine-scores.js'
import type { Learner, LearnTask, TaskTraining } from '../learner.js'
import { promptsOf, trainingOptions, trainingShape } from '../learner-options.js'

/** Settings of every such method; spread into its own. */
export const fullWeightsShape = {
  ...trainingShape,
  /** ε of the labels */
  smoothing: z.number().min(0).lt(1).optional(),
} as const

export type FullWeightsOptions = z.infer<z.ZodObject<typeof fullWeightsShape>>

/** What a method adds to one task; absent: what fine-tuning does. */
export interface TaskParts {
  readonly objective?: TaskTraining['objective']
  readonly options?: TaskTraining['options']
  readonly beside?: TaskTraining['beside']
  /** after the last step */
  end?(): void
  /** frees what the task took, whether it ended or not */
  dispose?(): void
}

export interface FullWeightsMethod {
  readonly name: string
  /** what must be the same when a run is continued, beside the options */
  readonly settings?: Readonly<Record<string, unknown>>
  /** before each task, with the weights as it finds them; 'none': this task is not trained on */
  prepare?(task: LearnTask, model: FullFineTuning, options: EncodeOptions): Promise<TaskParts | 'none'>
  /** what is remembered of finished tasks beside the weights: plain JSON */
  memory?(): Readonly<Record<string, unknown>>
  remember?(json: Readonly<Record<string, unknown>>): void
  dispose?(): void
}

const DEFAULTS = { lr: 1e-5, minLr: 0, batch: 64, weightDecay: 0, clipNorm: 0, ema: false } as const

/** The first prompt of each class: what the text tower is trained on. */
export const firstPrompts = (task: Pick<LearnTask, 'train'>): string[] => promptsOf(task.train).map(({ prompts }) => prompts[0])

export async function createFullWeightsLearner(clip: Clip, options: FullWeightsOptions, own: FullWeightsMethod): Promise<Learner> {
  const model = await FullFineTuning.create(clip)
  const { smoothing = 0.2 } = options
  const objective = new ClassCrossEntropy(clip.logitScale, { smoothing })
  let parts: TaskParts | undefined
  const release = () => {
    parts?.dispose?.()
    parts = undefined
  }
  return {
    name: own.name,
    plain: true,
    settings: { ...options, ...own.settings },
    parameterCount: model.parameters.reduce((sum, { count }) => sum + count, 0),
    async begin(task, encode) {
      release()
      const added = (await own.prepare?.(task, model, encode)) ?? {}
      if (added === 'none') return undefined
      parts = added
      const training = trainingOptions(options, { ...DEFAULTS, classTexts: firstPrompts(task) })
      return {
        method: model,
        objective: added.objective ?? objective,
        options: { ...training, ...added.options },
        keepBest: options.keepBest,
        beside: added.beside,
      }
    },
    async end() {
      parts?.end?.()
      release()
    },
    score: (data, classes, visit, encode) => cosineScores(clip, undefined, data, classes, visit, encode),
    state: () => ({ json: own.memory?.() ?? {}, tensors: model.parameters }),
    async restore(json, read) {
      own.remember?.(json)
      for (const parameter of model.parameters) parameter.write((await read(parameter.name)).data)
    },
    dispose() {
      release()
      own.dispose?.()
      freeze(model.parameters)
    },
  }
}

/** Gradients go; the weights stay as they are. */
function freeze(parameters: readonly Parameter[]): void {
  for (const parameter of parameters) parameter.trainable = false
}
