// A model for another image size than the checkpoint's: its configuration and its position embeddings.
import { CambiumError } from '../errors.js'
import type { ClipConfig } from '../formats/hf-config.js'
import type { Weights } from './weights.js'

export const POSITIONS = 'vision_model.embeddings.position_embedding.weight'

/** The configuration for another image side, also as it will be written. @throws E_OPTION for a side that is no multiple of the patch size */
export function withImageSize(config: ClipConfig, imageSize: number): ClipConfig {
  const { patchSize } = config.vision
  if (!Number.isInteger(imageSize) || imageSize < patchSize || imageSize % patchSize !== 0)
    throw new CambiumError('E_OPTION', `imageSize: expected a multiple of the patch size ${patchSize}, got ${imageSize}`)
  const raw = { ...config.raw, vision_config: { ...(config.raw.vision_config as object), image_size: imageSize } }
  return { ...config, vision: { ...config.vision, imageSize }, raw }
}

/** Interpolates the position embeddings for the image side of a configuration. */
export async function resizePositions(weights: Weights, { imageSize, patchSize, hiddenSize }: ClipConfig['vision']): Promise<void> {
  const side = imageSize / patchSize
  weights.replace(POSITIONS, interpolatePositions(await weights.floats(POSITIONS), hiddenSize, side), [side * side + 1, hiddenSize])
}

/** Keys' cubic with a = -0.75, as PyTorch's bicubic. */
function cubic(distance: number): number {
  const a = -0.75
  const x = Math.abs(distance)
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0
}

/** The four neighbours of each output place and their weights; the border repeats. */
function taps(from: number, to: number): { at: number[]; weight: number[] }[] {
  return Array.from({ length: to }, (_, i) => {
    const centre = ((i + 0.5) * from) / to - 0.5
    const first = Math.floor(centre) - 1
    const at = [0, 1, 2, 3].map((k) => Math.min(from - 1, Math.max(0, first + k)))
    return { at, weight: [0, 1, 2, 3].map((k) => cubic(centre - first - k)) }
  })
}

/** Σ_i Σ_j rows_i · columns_j · value(i, j) over four neighbours a side. */
function weighted(rows: readonly number[], columns: readonly number[], value: (i: number, j: number) => number): number {
  let sum = 0
  for (let i = 0; i < 4; i++) {
    let row = 0
    for (let j = 0; j < 4; j++) row += columns[j] * value(i, j)
    sum += rows[i] * row
  }
  return sum
}

/**
 * Resizes the patch grid of position embeddings [1 + n², D] to [1 + m², D]: bicubic, align_corners false, no
 * antialiasing (transformers' `interpolate_pos_encoding`). The class token's stays.
 * @throws E_SHAPE when the patches are no square
 */
function interpolatePositions(table: Float32Array, width: number, side: number): Float32Array {
  const from = Math.round(Math.sqrt(table.length / width - 1))
  if ((from * from + 1) * width !== table.length)
    throw new CambiumError('E_SHAPE', `position_embedding: expected a square grid and a class token, got ${table.length / width} rows`)
  const out = new Float32Array((side * side + 1) * width)
  out.set(table.subarray(0, width))
  const line = taps(from, side)
  for (const [y, rows] of line.entries())
    for (const [x, columns] of line.entries()) {
      const target = (1 + y * side + x) * width
      for (let d = 0; d < width; d++) {
        const value = (i: number, j: number) => table[(1 + rows.at[i] * from + columns.at[j]) * width + d]
        out[target + d] = weighted(rows.weight, columns.weight, value)
      }
    }
  return out
}
