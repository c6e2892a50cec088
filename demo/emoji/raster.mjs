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

async function writeImage({ svg, modulate, path }) {
  const flat = sharp(Buffer.from(svg)).flatten({ background: '#ffffff' })
  const image = modulate === undefined ? flat : flat.modulate(modulate)
  await image.removeAlpha().toColourspace('srgb').png({ compressionLevel: 3 }).toFile(path)
}

/**
 * Writes PNG files, a few at once.
 * @param jobs [{ svg, path, modulate? }]; modulate shifts the colours: { hue in degrees, saturation, brightness }
 */
export async function writeImages(jobs) {
  for (const folder of new Set(jobs.map(({ path }) => dirname(path)))) mkdirSync(folder, { recursive: true })
  let next = 0
  const worker = async () => {
    while (next < jobs.length) await writeImage(jobs[next++])
  }
  await Promise.all(Array.from({ length: 2 * availableParallelism() }, worker))
}
