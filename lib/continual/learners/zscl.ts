// ZSCL (Zheng, Ma, Wang, Qin, Yue & You: Preventing Zero-Shot Transfer Degradation in Continual Learning of Vision-Language Models,
// ICCV 2023): fine-tuning of all weights held in three ways,
//
//   L = CE + T² CE(Z'/T, Z/T) + T² CE(Z'ᵀ/T, Zᵀ/T) + λ Σ‖θ − θ_start‖²,  Z = exp(s) f(u) Rᵀ
//   θ̄ ← (n θ̄ + θ)/(n + 1) every I steps
//
// u reference images, R the pretrained model's features of reference texts, Z' what it says of both; θ̄ is evaluated, saved and begins
// the next task. As in the authors' code the texts' side of the student's Z is R too: its text tower is held by the ℓ2 term alone.
// The teacher's features are computed once, with the evaluation transform (theirs too): it costs nothing in a step.
import { z } from 'zod'
import type { Clip } from '../../models/clip.js'
import { distillation } from '../../objectives/distillation.js'
import { l2Normalize } from '../../ops.js'
import { Tensor } from '../../tensor.js'
import type { StepTerm, TrainerOptions } from '../../train/train.js'
import type { Learner } from '../learner.js'
import type { LearnerContext } from '../learner-options.js'
import { type ReferenceDraw, ReferenceSet, referenceSchema } from '../reference-set.js'
import { RunningMean } from '../running-mean.js'
import { bytesOf, Snapshot } from '../snapshot.js'
import { createFullWeightsLearner, fullWeightsShape } from './full-weights.js'

const { keepBest: _, ...shape } = fullWeightsShape // the mean over the run is what is kept

export const zsclSettings = z.strictObject({
  ...shape,
  reference: referenceSchema,
  /** images of a reference batch. Default: the task's batch */
  referenceBatch: z.number().int().positive().optional(),
  /** of images over texts, and of texts over images. Default 1 each; 5 for class-incremental (ZSCL) */
  imageWeight: z.number().min(0).optional(),
  textWeight: z.number().min(0).optional(),
  /** T. Default 2 */
  temperature: z.number().positive().optional(),
  /** λ. Default 1 */
  l2: z.number().min(0).optional(),
  /** I, steps between the weights that θ̄ takes in; 0: no ensemble. Default 100; 10 for class-incremental (ZSCL) */
  averageEvery: z.number().int().min(0).optional(),
})

export type ZsclOptions = z.infer<typeof zsclSettings>

export async function createZsclLearner(clip: Clip, options: ZsclOptions, context: LearnerContext): Promise<Learner> {
  const { reference: where, l2 = 1, averageEvery = 100, imageWeight = 1, textWeight = 1, ...rest } = options
  const held = imageWeight > 0 || textWeight > 0
  const reference = held && !context.askOnly ? await openReference(clip, where, context) : undefined // before anything trains: the model is the teacher
  if (!context.askOnly) context.note?.(`zscl: ${reference?.data.length ?? 0} reference images`)
  return createFullWeightsLearner(clip, rest, {
    name: 'zscl',
    settings: { l2, averageEvery, imageWeight, textWeight, reference: reference?.settings },
    prepare: async (task, { parameters }) => {
      const start = l2 > 0 ? new Snapshot(parameters) : undefined
      const mean = averageEvery > 0 ? new RunningMean(parameters, averageEvery) : undefined
      const term = reference && pretrainedModel(clip, reference, { seed: context.seed, task: task.index }, options)
      const training: Partial<TrainerOptions> = {
        terms: term ? [term] : [],
        ...(start ? { optimizer: { name: 'adamw', anchor: { tensors: start.tensors, pull: l2 } } } : {}),
        ...(mean ? { afterStep: (done) => mean.afterStep(done), extraState: mean.state } : {}),
      }
      const images = reference && Math.min(options.referenceBatch ?? options.batch ?? 64, reference.data.length)
      const held = (start?.bytes ?? 0) + bytesOf(mean?.state ?? []) + (reference?.bytes ?? 0)
      return {
        options: training,
        beside: { held, images },
        end: () => mean?.putInPlace(),
        dispose() {
          start?.dispose()
          mean?.dispose()
        },
      }
    },
    dispose: () => reference?.dispose(),
  })
}

function openReference(clip: Clip, where: ZsclOptions['reference'], { signal, onProgress }: LearnerContext): Promise<ReferenceSet> {
  return ReferenceSet.open(clip, where, { signal, onProgress: (progress) => onProgress?.(`reference ${progress.what}`, progress) })
}

function pretrainedModel(clip: Clip, reference: ReferenceSet, draw: ReferenceDraw, options: ZsclOptions): StepTerm {
  const { imageWeight = 1, textWeight = 1, temperature = 2, referenceBatch } = options
  return {
    settings: { imageWeight, textWeight, temperature, referenceBatch, ...reference.settings },
    async prepare(step, { samples }) {
      const { pixels, shape, image } = await reference.batch(draw, step, referenceBatch ?? Math.min(samples.length, reference.data.length))
      return [Tensor.from(pixels, shape), Tensor.from(image, [shape[0], image.length / shape[0]])]
    },
    loss(_image, _text, [pixels, said]) {
      const image = l2Normalize(clip.encodeImage(pixels))
      const { texts } = reference
      return distillation(
        { image, text: texts },
        { image: said, text: texts },
        { logScale: clip.logitScale, temperature, imageWeight, textWeight },
      )
    },
  }
}
