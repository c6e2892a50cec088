import { join } from 'node:path'
import { createLearner } from '../../lib/continual/learners/registry.js'
import { Clip } from '../../lib/models/clip.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'

const folder = temporaryFolder()

test.each([
  ['lwf', { seen: 'a cat' }, 'seen'],
  ['prefix', { tasks: -1 }, 'tasks'],
  ['diki', { learned: 1 }, 'tasks'],
])('%s refuses a state that it did not write, saying where', async (method, json, where) => {
  const clip = await Clip.load(tinyClip(join(folder, method)), { dtype: 'f32' })
  const learner = await createLearner(clip, method, {}, { seed: 0 })
  const nothing = async () => {
    throw new Error('expected that nothing is read')
  }
  await expect(learner.restore(json, nothing, nothing)).rejects.toMatchObject({ code: 'E_RUN', message: expect.stringContaining(where) })
  learner.dispose()
  clip.dispose()
})
