// Sequential full fine-tuning: every weight but the temperature goes on training on each task, with nothing that holds what was
// learned before (the lower baseline of Zheng et al. 2023, ZSCL).
import { z } from 'zod'
import { FullFineTuning } from '../../methods/full-fine-tuning.js'
import type { Clip } from '../../models/clip.js'
import { InfoNceLoss } from '../../objectives/info-nce.js'
import { cosineScores } from '../cosine-scores.js'
import type { Learner } from '../learner.js'
import { trainingOptions, trainingShape } from '../learner-options.js'

export const sequentialSettings = z.strictObject({ ...trainingShape })

export type SequentialOptions = z.infer<typeof sequentialSettings>

export async function createSequentialLearner(clip: Clip, options: SequentialOptions = {}): Promise<Learner> {
  const method = await FullFineTuning.create(clip)
  const training = trainingOptions(options, { lr: 1e-5, weightDecay: 0.1, ema: false })
  return {
    name: 'sequential',
    settings: { ...options },
    parameterCount: method.parameters.reduce((sum, p) => sum + p.count, 0),
    begin: async () => ({
      method,
      objective: new InfoNceLoss(clip.logitScale, { multiPositive: true }),
      options: training,
      keepBest: options.keepBest,
    }),
    end: async () => {},
    score: (data, classes, visit, score) => cosineScores(clip, undefined, data, classes, visit, score),
    state: () => ({ json: {}, tensors: method.parameters }),
    restore: async (_, read) => {
      for (const parameter of method.parameters) parameter.write((await read(parameter.name)).data)
    },
    dispose: () => {},
  }
}
