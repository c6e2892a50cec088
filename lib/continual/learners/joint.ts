// Joint training, the upper bound: all tasks' data at once from the pretrained weights, each image among the classes of its own task.
// It is no continual method: it alone is given the data of earlier tasks. Either once, when the last task has come (before that the
// model is the pretrained one, and only the last stage says something), or anew at every stage with the tasks seen so far.
import { z } from 'zod'
import { Dataset } from '../../data/dataset.js'
import { CambiumError } from '../../errors.js'
import type { Clip } from '../../models/clip.js'
import { GroupedCrossEntropy } from '../../objectives/grouped-cross-entropy.js'
import type { Learner, LearnTask } from '../learner.js'
import { createFullWeightsLearner, firstPrompts, fullWeightsShape } from './full-weights.js'

const { keepBest: _, ...shape } = fullWeightsShape // no one task's validation set speaks for all

export const jointSettings = z.strictObject({
  ...shape,
  /** when it trains: with the last task, or with each. Default last */
  stages: z.enum(['last', 'each']).optional(),
})

export type JointOptions = z.infer<typeof jointSettings>

export async function createJointLearner(clip: Clip, options: JointOptions = {}): Promise<Learner> {
  const { stages = 'last', smoothing = 0.2 } = options
  return createFullWeightsLearner(clip, options, {
    name: 'joint',
    prepare: async (task, { parameters }) => {
      if (stages === 'last' && !task.last) return 'none'
      const tasks = [...(task.previous ?? []), task]
      if (tasks.length !== task.index + 1)
        throw new CambiumError('E_OPTION', `joint: expected the data of all ${task.index + 1} tasks, got those of ${tasks.length}`)
      for (const parameter of parameters) await clip.weights.readInto(parameter, parameter.name)
      const groups = tasks.map(({ train }) => train.classNames.length)
      const objective = new GroupedCrossEntropy(clip.logitScale, groups, { smoothing })
      return {
        objective,
        options: { data: union(tasks), classTexts: tasks.flatMap(firstPrompts) },
        dispose: () => objective.dispose(),
      }
    },
  })
}

/** All images, their classes numbered on from task to task. */
export function union(tasks: readonly Pick<LearnTask, 'name' | 'train'>[]): Dataset {
  const classNames = tasks.flatMap(({ train }) => train.classNames)
  let first = 0
  const samples = tasks.flatMap(({ name, train }) => {
    const own = train.samples.map(({ id, image, label }) => ({
      id: `${name}/${id}`,
      image,
      label: label === undefined ? label : first + label,
    }))
    first += train.classNames.length
    return own
  })
  return new Dataset(samples, { classNames, skipBroken: tasks.some(({ train }) => train.skipBroken) })
}
