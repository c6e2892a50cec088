import { join } from 'node:path'
import { Clip } from '../../lib/models/clip.js'
import { classify } from '../../lib/train/classify.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const root = temporaryFolder()

test('probabilities of each image add up to one, and do not depend on the batch', async () => {
  const clip = await Clip.load(tinyClip(join(root, 'clip')), { dtype: 'f32' })
  const images = await tinyImages(join(root, 'images'), ['a', 'b'], 3)
  const paths = ['a/0', 'a/1', 'b/2'].map((name) => join(images, `${name}.png`))
  const labels = ['cat', 'dog', 'tree']
  const together = await classify(clip, paths, labels)
  const alone = await classify(clip, paths, labels, { batch: 1 })
  expect(together).toHaveLength(3)
  together.forEach(({ label, probabilities }, i) => {
    expect(probabilities.reduce((a, b) => a + b)).toBeCloseTo(1, 5)
    expect(labels[probabilities.indexOf(Math.max(...probabilities))]).toBe(label)
    expect(alone[i].label).toBe(label)
    expect([...alone[i].probabilities]).toEqual([...probabilities])
  })
  await expect(classify(clip, [join(root, 'none.png')], labels)).rejects.toMatchObject({ code: 'E_IMAGE' })
  clip.dispose()
})
