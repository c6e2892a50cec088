// Learning without Forgetting (Li & Hoiem 2016) on CLIP: what the model said of the task's own images before the task is held by
// distillation while it learns,
//
//   L = CE + λ T² CE(softmax(Z'/T), softmax(Z/T)),  Z = exp(s) f(x) g(classes)ᵀ,
//
// Z' of the model that the task begins with, T = 2. The classes are those of earlier tasks, the "old heads" of the paper, whose texts the
// student encodes anew each step. The first task has none before it: there the pretrained model is asked about the task's own classes.
// ZSCL's comparison does that in every task (`texts: current`) and distils both ways round (`textWeight: 1`).
import { z } from 'zod'
import type { Clip } from '../../models/clip.js'
import { distillation } from '../../objectives/distillation.js'
import { l2Normalize, sum } from '../../ops.js'
import { noGradient, step, Tensor } from '../../tensor.js'
import { encodeTexts } from '../../train/features.js'
import type { StepTerm } from '../../train/train.js'
import type { Learner } from '../learner.js'
import { savedJson } from '../saved-json.js'
import { Snapshot } from '../snapshot.js'
import { createFullWeightsLearner, firstPrompts, fullWeightsShape } from './full-weights.js'

export const lwfSettings = z.strictObject({
  ...fullWeightsShape,
  /** λ; 0: sequential fine-tuning. Default 1 */
  weight: z.number().min(0).optional(),
  /** T. Default 2 */
  temperature: z.number().positive().optional(),
  /** of texts over images, times λ. Default 0 */
  textWeight: z.number().min(0).optional(),
  /** which classes the two models are compared on. Default earlier */
  texts: z.enum(['earlier', 'current']).optional(),
})

const savedTexts = z.object({ seen: z.array(z.string()) })

export type LwfOptions = z.infer<typeof lwfSettings>

export async function createLwfLearner(clip: Clip, options: LwfOptions = {}): Promise<Learner> {
  const { weight = 1, texts = 'earlier' } = options
  let seen: readonly string[] = []
  return createFullWeightsLearner(clip, options, {
    name: 'lwf',
    prepare: async (task, { parameters }, encode) => {
      const own = firstPrompts(task)
      const asked = texts === 'earlier' && seen.length > 0 ? seen : undefined
      const remember = () => {
        seen = [...new Set([...seen, ...own])]
      }
      if (weight === 0) return { end: remember }
      const start = new Snapshot(parameters)
      const answers = await encodeTexts(clip, asked ?? own, undefined, { ...encode, cache: undefined })
      const term = previousModel(clip, start, { texts: asked, answers }, options)
      const beside = {
        held: start.bytes + answers.byteLength,
        texts: asked?.length,
        taught: Math.min(options.batch ?? 64, task.train.length),
      }
      return { options: { terms: [term] }, beside, end: remember, dispose: () => start.dispose() }
    },
    memory: () => ({ seen }),
    remember: (json) => {
      seen = savedJson('lwf', savedTexts, json).seen
    },
  })
}

interface Asked {
  /** absent: the classes of the task, which the step encodes anyway */
  readonly texts?: readonly string[]
  /** [M, P], normalised: what the teacher makes of the texts */
  readonly answers: Float32Array
}

function previousModel(clip: Clip, teacher: Snapshot, { texts, answers }: Asked, options: LwfOptions): StepTerm {
  const { weight = 1, temperature = 2, textWeight = 0 } = options
  const width = clip.config.projectionDim
  const tokens = texts && clip.tokenize(texts)
  const model = teacher.model
  return {
    settings: { weight, temperature, textWeight, texts },
    async prepare(_, { pixels, shape }) {
      return [await step(() => noGradient(() => l2Normalize(clip.encodeImage(Tensor.from(pixels, shape), model))))]
    },
    loss(image, text, [before]) {
      const student = { image: l2Normalize(image), text: l2Normalize(tokens ? clip.encodeText(tokens) : text) }
      const said = { image: before, text: Tensor.from(answers, [answers.length / width, width]) }
      return sum(distillation(student, said, { logScale: clip.logitScale, temperature, textWeight }), weight)
    },
  }
}
