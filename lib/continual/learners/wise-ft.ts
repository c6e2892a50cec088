// WiSE-FT between tasks (Wortsman et al. 2022, as a baseline of ZSCL): fine-tuning, and after each task
//
//   θ ← (1 − α) θ_start + α θ
//
// with the weights that the task began with, so that the model after t tasks holds (1 − α)^t of the pretrained one; α = 0.8 there.
import { z } from 'zod'
import type { Clip } from '../../models/clip.js'
import { native } from '../../native.js'
import { interpolate } from '../../ops.js'
import { scope } from '../../tensor.js'
import type { Learner } from '../learner.js'
import { Snapshot } from '../snapshot.js'
import { createFullWeightsLearner, fullWeightsShape } from './full-weights.js'

export const wiseFtSettings = z.strictObject({
  ...fullWeightsShape,
  /** α; 1: sequential fine-tuning, 0: the model never changes. Default 0.8 */
  alpha: z.number().min(0).max(1).optional(),
})

export type WiseFtOptions = z.infer<typeof wiseFtSettings>

export async function createWiseFtLearner(clip: Clip, options: WiseFtOptions = {}): Promise<Learner> {
  const { alpha = 0.8 } = options
  return createFullWeightsLearner(clip, options, {
    name: 'wise-ft',
    prepare: async (_, { parameters }) => {
      const start = new Snapshot(parameters)
      return {
        beside: { held: start.bytes },
        end() {
          for (const [i, before] of [...start.tensors.values()].entries())
            scope(() => native.copy(interpolate(before, parameters[i], alpha, 'f32').id, parameters[i].id))
        },
        dispose: () => start.dispose(),
      }
    },
  })
}
