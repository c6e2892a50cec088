import { join } from 'node:path'
import { Clip } from '../../lib/models/clip.js'
import { classify, classifyStream } from '../../lib/train/classify.js'
import { classHead } from '../../lib/train/features.js'
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

test('labels that were encoded before give the same, and are not encoded again', async () => {
  const clip = await Clip.load(tinyClip(join(root, 'clip')), { dtype: 'f32' })
  const image = join(await tinyImages(join(root, 'one'), ['a'], 1), 'a', '0.png')
  const labels = ['cat', 'dog', 'tree']
  const templates = ['a {}.', 'the {}.']
  const head = await classHead(clip, labels, templates)
  const first = await classify(clip, [image], labels, { templates })
  const encoded = jest.spyOn(clip, 'tokenize')
  expect(await classify(clip, [image], labels, { head })).toEqual(first)
  const guesses = (await classifyStream(clip, [{ image }], labels, { head, top: 1 }).next()).value?.[0].top
  expect(guesses).toMatchObject([{ label: first[0].label }])
  expect(encoded).not.toHaveBeenCalled()
  await expect(classify(clip, [image], ['cat'], { head })).rejects.toMatchObject({
    code: 'E_OPTION',
    message: /head: expected 1 × \d+ numbers/,
  })
  await expect(classify(clip, [image], labels, { head, templates })).rejects.toThrow(/templates: expected none with a head/)
  await expect(classify(clip, [image], [], { head: new Float32Array() })).rejects.toThrow(/head: expected 0/)
  clip.dispose()
})

test('many texts are cut into tokens a batch at a time', async () => {
  const clip = await Clip.load(tinyClip(join(root, 'clip')), { dtype: 'f32' })
  const tokenize = jest.spyOn(clip, 'tokenize')
  const stop = new AbortController()
  const onProgress = () => stop.abort()
  const labels = Array.from({ length: 9 }, (_, i) => `thing ${i}`)
  await expect(classHead(clip, labels, ['a {}'], undefined, { batch: 3, onProgress, signal: stop.signal })).rejects.toThrow(/abort/)
  expect(tokenize).toHaveBeenCalledTimes(3)
  clip.dispose()
})
