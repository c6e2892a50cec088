import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseClipConfig } from '../../lib/formats/hf-config.js'
import { POSITIONS, resizePositions, withImageSize } from '../../lib/models/image-size.js'
import type { Weights } from '../../lib/models/weights.js'
import { fixture } from '../fixture.js'

// torch.nn.functional.interpolate(grid, size=(n, n), mode='bicubic', align_corners=False) in float64 (PyTorch 2.13)
const GRID = [0, 1, 4, 2, -3, 5, 7, 0.5, -1]
const SMALLER = [0.0508346558, 3.4147109985, 4.4649353027, -0.017074585]
const LARGER = [
  [-0.2462439537, 0.4814059734, 2.3960161209, 4.1177947521],
  [0.9218481779, -1.7754846811, 0.3728553057, 5.8186355829],
  [4.4664828777, -0.5073051453, -1.0121891499, 3.315682888],
  [7.8331674337, 3.372012496, -0.7609647512, -1.5872739553],
].flat()

/** A table [1 + n², 2] whose second column is the first's negative. */
const table = (first: number, grid: readonly number[]) => Float32Array.from([first, ...grid].flatMap((x) => [x, -x]))

async function resized(values: Float32Array, side: number) {
  const kept: [Float32Array, readonly number[]][] = []
  const weights = {
    floats: async (name: string) => (name === POSITIONS ? values : new Float32Array()),
    replace: (_: string, data: Float32Array, shape: readonly number[]) => void kept.push([data, shape]),
  }
  const { vision } = parseClipConfig(JSON.parse(readFileSync(join(fixture('odd', 'clip-gelu'), 'config.json'), 'utf8')))
  await resizePositions(weights as unknown as Weights, { ...vision, hiddenSize: 2, patchSize: 11, imageSize: 11 * side })
  return kept[0]
}

test.each([
  [2, SMALLER],
  [3, GRID],
  [4, LARGER],
])('to a grid of %i, as PyTorch does it; the class token stays', async (side, expected) => {
  const [data, shape] = await resized(table(9, GRID), side)
  expect(shape).toEqual([side * side + 1, 2])
  for (const [i, want] of table(9, expected).entries()) expect(data[i]).toBeCloseTo(want, 5)
})

test('patches that are no square are refused', async () => {
  await expect(resized(table(9, GRID.slice(1)), 2)).rejects.toMatchObject({ code: 'E_SHAPE' })
})

test('a side that is no multiple of the patch size is refused', () => {
  const config = parseClipConfig(JSON.parse(readFileSync(join(fixture('odd', 'clip-gelu'), 'config.json'), 'utf8')))
  for (const side of [0, 10, 34, 16.5]) expect(() => withImageSize(config, side)).toThrow(expect.objectContaining({ code: 'E_OPTION' }))
  expect(withImageSize(config, 44)).toMatchObject({ vision: { imageSize: 44 }, raw: { vision_config: { image_size: 44 } } })
})
