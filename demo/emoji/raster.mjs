// Drawings to pixels: an icon of a package as SVG, and as a small PNG on white.

import { mkdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname } from 'node:path'
import sharp from 'sharp'

/** The icon as an SVG document of size × size pixels. */
export function svgOf(pack, icon, size) {
  const { body, width = pack.width, height = pack.height, left = 0, top = 0 } = pack.icons[icon]
  const open = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"`
  return `${open} width="${size}" height="${size}" viewBox="${left} ${top} ${width} ${height}">${body}</svg>`
}

const onWhite = (svg) => sharp(Buffer.from(svg)).flatten({ background: '#ffffff' }).removeAlpha().toColourspace('srgb')

/** Pixels [size, size, 3] as bytes. */
export const rasterise = (svg) => onWhite(svg).raw().toBuffer()

/**
 * Writes PNG files. `jobs` is [{ svg, path }]; a few run at once.
 * @param progress called with the number of files done
 */
export async function writeImages(jobs, progress = () => {}) {
  for (const folder of new Set(jobs.map(({ path }) => dirname(path)))) mkdirSync(folder, { recursive: true })
  let next = 0
  let done = 0
  const worker = async () => {
    while (next < jobs.length) {
      const { svg, path } = jobs[next++]
      await onWhite(svg).png({ compressionLevel: 3 }).toFile(path)
      progress(++done)
    }
  }
  await Promise.all(Array.from({ length: 2 * availableParallelism() }, worker))
}
