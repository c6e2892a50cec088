// Variants of a drawing for pretraining: the same picture as another hand might have drawn it. The SVG is moved, turned,
// stretched and zoomed, its shapes may get an ink outline or fade, its colours shift, and the paper is not always white.
// This is data, made before training; the trainer's own RandomResizedCrop comes on top.

import { seedOf, uniforms } from '../random.mjs'

/** Attributes of the group around a drawing, inherited by every shape that does not set its own. */
function ink(uniform, unit) {
  const kind = uniform()
  const width = ((0.008 + 0.022 * uniform()) * unit).toFixed(3)
  const outline = `stroke="#${uniform() < 0.8 ? '000' : '444'}" stroke-width="${width}" stroke-linejoin="round"`
  return kind < 0.4 ? outline : ''
}

const PAPER = ['#ffffff', '#ffffff', '#ffffff', '#f4f4f4', '#e8f0f8', '#fdf3dc', '#dcdcdc']

/** How sharp shifts the colours: { hue (degrees), saturation, brightness } factors; one in ten is nearly grey. */
function tint(uniform) {
  const strong = uniform() < 0.3
  const saturation = uniform() < 0.1 ? 0.05 : 0.6 + 0.8 * uniform()
  const hue = Math.round((uniform() - 0.5) * (strong ? 120 : 24) + 360) % 360
  return { hue, saturation, brightness: 0.85 + 0.3 * uniform() }
}

/**
 * One variant of an icon, the same for the same key.
 * @param key for example "noto/1f34e/3"
 * @returns {{ svg: string, modulate: { hue: number, saturation: number, brightness: number } }}
 */
export function variantOf(pack, icon, size, key) {
  const uniform = uniforms(seedOf(key))
  const { body, width = pack.width, height = pack.height, left = 0, top = 0 } = pack.icons[icon]
  const zoom = 0.62 + 0.5 * uniform()
  const stretch = Math.exp((uniform() - 0.5) * 0.35)
  const angle = (uniform() + uniform() - 1) * 28
  const slack = 0.5 * Math.max(0.06, 1 - zoom)
  const move = () => (uniform() * 2 - 1) * slack
  const [cx, cy] = [left + width / 2, top + height / 2]
  const place = `translate(${cx + width * move()} ${cy + height * move()})`
  const shape = `rotate(${angle}) scale(${zoom * stretch} ${zoom / stretch}) translate(${-cx} ${-cy})`
  const paper = PAPER[Math.floor(uniform() * PAPER.length)]
  const group = `<g ${ink(uniform, width)} transform="${place} ${shape}">${body}</g>`
  const open = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${size}" height="${size}"`
  const rect = `<rect x="${left}" y="${top}" width="${width}" height="${height}" fill="${paper}"/>`
  return { svg: `${open} viewBox="${left} ${top} ${width} ${height}">${rect}${group}</svg>`, modulate: tint(uniform) }
}
