/** An image in memory, and how large one may be. */

/** Interleaved rows [height, width, 3]. */
export interface RgbImage {
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
}

/** Pillow warns above it: a small file is taken for a decompression bomb. */
export const MOST_PIXELS = 178_956_970

/** @throws what is wrong with its sides */
export function requireSize(width: number, height: number): void {
  if (!(width >= 1 && height >= 1)) throw new Error(`${width} x ${height} pixels`)
  if (width * height > MOST_PIXELS) throw new Error(`${width} x ${height} pixels, more than ${MOST_PIXELS}`)
}
