import { join } from 'node:path'
import { Clip } from '../../lib/models/clip.js'
import { commonShape, type PackedTexts, packedValues, padTexts, shapeOf } from '../../lib/models/packed-texts.js'
import { type TextBatch, textBatch } from '../../lib/models/text-batch.js'
import { l2Normalize, multiply, sum } from '../../lib/ops.js'
import { backward, step, Tensor } from '../../lib/tensor.js'
import fc from '../fast-check.js'
import { relativeError } from '../fixture.js'
import { normals } from '../ops/normals.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'

const folder = temporaryFolder()
const [CONTEXT, START, END] = [20, 598, 599]

/** A text of some length; the same letters again where the seed is. */
const textOf = (length: number, seed: number) => [START, ...Array.from({ length: length - 2 }, (_, i) => ((seed + 1) * (i + 3)) % 256), END]

/** Texts of one part of a batch: all short, or all long, or mixed; alike or not. */
const part = (entries: number) =>
  fc
    .record({ least: fc.integer({ min: 2, max: CONTEXT }), most: fc.integer({ min: 2, max: CONTEXT }), kinds: fc.constantFrom(1, 3, 200) })
    .map(({ least, most, kinds }) =>
      Array.from({ length: entries }, (_, i) => textOf(Math.min(least, most) + ((7 * i) % (Math.abs(most - least) + 1)), i % kinds)),
    )

test('a padded batch is the batch with fillers behind it, whatever it is padded together with', () => {
  const parts = fc.integer({ min: 1, max: 40 }).chain((entries) => fc.array(part(entries), { minLength: 1, maxLength: 4 }))
  fc.assert(
    fc.property(parts, (texts) => {
      const entries = texts[0].length
      const batches = texts.map((each) => textBatch(each, CONTEXT, END))
      const shape = commonShape(batches, entries, CONTEXT)
      for (const [i, batch] of batches.entries()) {
        const padded = padTexts(batch, shape, entries)
        expect(shapeOf(padded)).toEqual(shape)
        expect(packedValues(padded)).toHaveLength(2 * shape.rows + 4 * shape.texts + 1 + entries)
        for (const part of ['ids', 'positions', 'offsets', 'keys', 'pooled'] as const)
          expect(padded[part].subarray(0, batch[part].length)).toEqual(batch[part])
        expect(Array.from(padded.index ?? [], (u) => batch.pooled[u])).toEqual(texts[i].map((_, n) => batch.pooled[batch.index?.[n] ?? n]))
        expect(padded.offsets.at(-1)).toBe(shape.rows)
        for (let u = 0; u < shape.texts; u++) {
          const [from, to] = [padded.offsets[u], padded.offsets[u + 1]]
          expect(to - from).toBeGreaterThanOrEqual(1)
          expect(to - from).toBeLessThanOrEqual(shape.maxTokens)
          expect(padded.positions.subarray(from, to)).toEqual(Int32Array.from({ length: to - from }, (_, n) => n))
          expect(padded.pooled[u] >= from && padded.pooled[u] < to).toBe(true)
        }
      }
    }),
    { numRuns: 30 },
  )
})

test('shapes are few: some for thousands of batches of captions of a data set', () => {
  const uniform = normals(7, 64 * 1000)
  const shapes = new Set<string>()
  for (let b = 0; b < 1000; b++) {
    const captions = Array.from({ length: 64 }, (_, i) =>
      textOf(Math.max(8, Math.min(77, Math.round(14 + 4 * uniform[b * 64 + i]))), b + i),
    )
    const batch = textBatch(captions, 77, END)
    const shape = commonShape([batch], 64, 77)
    shapes.add(JSON.stringify(shape))
    expect(shape.rows / batch.ids.length).toBeLessThan(1.5)
  }
  expect(shapes.size).toBeLessThanOrEqual(4)
})

describe('on the tiny CLIP', () => {
  let clip: Clip
  beforeAll(async () => {
    clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
    const names = [...clip.weights.values()].map(({ name }) => name).filter((name) => name.startsWith('text_'))
    await clip.weights.unfreeze(names)
  })
  afterAll(() => clip.dispose())

  const texts = [5, 9, 5, 20, 3, 12].map((length, i) => textOf(length, i % 3))

  /** Features, and gradients of all weights of the tower for some seed. */
  async function passed(batch: TextBatch): Promise<Float32Array[]> {
    const values = packedValues(batch)
    const trained = [...clip.weights.values()].filter((p) => p.trainable)
    const features = await step(() => {
      const packed: PackedTexts = { values: Tensor.from(values, [values.length], 'i32'), shape: shapeOf(batch) }
      const features = clip.encodePacked(packed)
      const seed = Tensor.from(Float32Array.from(normals(3, features.count)), features.shape)
      backward(sum(multiply(l2Normalize(features), seed)))
      return features
    })
    const all = [await features.floats()]
    features.dispose()
    for (const p of trained) {
      all.push((await p.gradient?.floats()) ?? new Float32Array())
      p.trainable = false // drops the gradient
      p.trainable = true
    }
    return all
  }

  test('padding changes no feature and no gradient', async () => {
    const batch = clip.packTexts(texts)
    const plain = await passed(batch)
    const padded = await passed(padTexts(batch, commonShape([batch], texts.length, CONTEXT), texts.length))
    expect(padded).toHaveLength(plain.length)
    for (const [i, each] of plain.entries()) expect(relativeError([padded[i], each])).toBeLessThan(i === 0 ? 1e-6 : 1e-5)
    expect(plain.length).toBeGreaterThan(40)
  })
})
