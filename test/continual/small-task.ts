/** Tasks of a few made-up images, and one of them learned as the loop does it. */
import { join } from 'node:path'
import type { Learner, LearnTask } from '../../lib/continual/learner.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import type { Clip } from '../../lib/models/clip.js'
import type { Tensor } from '../../lib/tensor.js'
import { Trainer } from '../../lib/train/train.js'
import { tinyImages } from '../tiny-clip.js'

/** @param names of the classes of each task */
export async function smallTasks(folder: string, names: readonly (readonly string[])[], images = 8): Promise<LearnTask[]> {
  const tasks: LearnTask[] = []
  for (const [index, classes] of names.entries()) {
    const train = await openDataset(await tinyImages(join(folder, `task-${index}`), classes, images), { templates: ['a {}.'] })
    tasks.push({ index, name: `task-${index}`, train, previous: [...tasks], last: index === names.length - 1 })
  }
  return tasks
}

export interface LearnedOnce {
  readonly losses: number[]
}

/** begin, two epochs without augmentation, end; `afterStep` sees the parameters between updates. */
export async function learnTask(clip: Clip, learner: Learner, task: LearnTask, afterStep?: (done: number) => void): Promise<LearnedOnce> {
  const losses: number[] = []
  const training = await learner.begin(task, {})
  if (training) {
    const { method, objective, options } = training
    const own = options.afterStep
    const trainer = new Trainer(clip, {
      data: task.train,
      epochs: 2,
      batch: 8,
      seed: 5,
      augment: false,
      ...options,
      method,
      objective,
      afterStep(done) {
        own?.(done)
        afterStep?.(done)
      },
    })
    for await (const event of trainer.run()) if (event.type === 'step') losses.push(event.loss)
    await learner.end(task, trainer.averages)
    trainer.dispose()
  } else await learner.end(task)
  return { losses }
}

/** The bits of tensors, by name. */
export async function bitsOf(tensors: readonly (Tensor & { readonly name: string })[]): Promise<Map<string, string>> {
  const all = new Map<string, string>()
  for (const tensor of tensors) all.set(tensor.name, Buffer.from((await tensor.floats()).buffer).toString('base64'))
  return all
}
