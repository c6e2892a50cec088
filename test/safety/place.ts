import { join } from 'node:path'
import sharp from 'sharp'
import { saveAdapter } from '../../lib/checkpoint/adapter-file.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'
import type { Place } from './busy-child.js'

/** What busy-child and leak-child work with, made before the first test: a tiny CLIP, an adapter for it, an image. */
export function preparePlace(): { place: Place; at: (name: string) => string } {
  const folder = temporaryFolder()
  const at = (name: string) => join(folder, name)
  const place: Place = { clip: at('clip'), adapter: at('adapter'), image: at('image.png'), out: at('out') }
  beforeAll(async () => {
    const clip = await Clip.load(tinyClip(place.clip), { dtype: 'f32' })
    const adapter = new RAdapter(clip, { rank: 2 })
    await saveAdapter(adapter, place.adapter)
    adapter.dispose()
    clip.dispose()
    await sharp({ create: { width: 900, height: 700, channels: 3, background: 'teal' } }).toFile(place.image)
  })
  return { place, at }
}
