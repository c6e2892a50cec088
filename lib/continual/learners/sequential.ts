// Sequential full fine-tuning: every weight but the temperature goes on training on each task, with nothing that holds what was
// learned before (the lower baseline of Zheng et al. 2023, ZSCL).
import { z } from 'zod'
import type { Clip } from '../../models/clip.js'
import type { Learner } from '../learner.js'
import { createFullWeightsLearner, fullWeightsShape } from './full-weights.js'

export const sequentialSettings = z.strictObject(fullWeightsShape)

export type SequentialOptions = z.infer<typeof sequentialSettings>

export const createSequentialLearner = (clip: Clip, options: SequentialOptions = {}): Promise<Learner> =>
  createFullWeightsLearner(clip, options, { name: 'sequential' })
