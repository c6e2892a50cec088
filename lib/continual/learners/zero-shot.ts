// The pretrained model as it is (Radford et al. 2021): learns nothing, forgets nothing. The level that Transfer is held against.
import { z } from 'zod'
import type { Clip } from '../../models/clip.js'
import { FeatureCache } from '../../train/features.js'
import { cosineScores } from '../cosine-scores.js'
import type { Learner } from '../learner.js'

export const zeroShotSettings = z.strictObject({})

export async function createZeroShotLearner(clip: Clip): Promise<Learner> {
  const cache = new FeatureCache() // the model never changes
  return {
    name: 'zero-shot',
    plain: true,
    settings: {},
    parameterCount: 0,
    begin: async () => undefined,
    end: async () => {},
    score: (data, classes, visit, options) => cosineScores(clip, undefined, data, classes, visit, { ...options, cache }),
    state: () => ({ json: {}, tensors: [] }),
    restore: async () => {},
    dispose: () => {},
  }
}
