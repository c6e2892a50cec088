/** Small pictures of images gained and lost, embedded in the report: few, small, and missing ones are told. */

import { decodeImage } from '../data/decode.js'
import { loadSharp } from '../data/load-sharp.js'
import { stat } from '../files.js'
import type { ImageChange, SetChange } from './changes.js'

/** CSS pixels of a side; drawn at this size and shown no larger. */
export const THUMBNAIL_SIDE = 96
/** Of one kind (gained, lost) in one set, and in the whole report. */
const MOST_OF_A_KIND = 12
const MOST_BYTES = 600_000
/** Larger files are not opened for a picture of 96 pixels. */
const LARGEST_FILE = 64e6

/** Images to show, with a JPEG as a data URL; without one where there is none or it cannot be read. */
export interface Thumbnail extends ImageChange {
  readonly url?: string
}

export interface Thumbnails {
  /** By the set's name. */
  readonly sets: ReadonlyMap<string, { readonly gained: readonly Thumbnail[]; readonly lost: readonly Thumbnail[] }>
  /** Images that should be shown and could not be read. */
  readonly missing: number
}

/** Chooses images and reads them; with `pictures` false their names alone are shown. */
export async function makeThumbnails(changes: readonly SetChange[], pictures: boolean): Promise<Thumbnails> {
  const sets = new Map<string, { gained: Thumbnail[]; lost: Thumbnail[] }>()
  let [missing, bytes] = [0, 0]
  const draw = async (change: ImageChange): Promise<Thumbnail> => {
    if (!pictures || bytes > MOST_BYTES) return change
    const jpeg = await thumbnail(change.image)
    if (jpeg === undefined) missing++
    else bytes += jpeg.length
    return jpeg === undefined ? change : { ...change, url: `data:image/jpeg;base64,${jpeg.toString('base64')}` }
  }
  for (const { name, gained, lost } of changes) {
    const shown = { gained: [] as Thumbnail[], lost: [] as Thumbnail[] }
    for (const change of spread(gained)) shown.gained.push(await draw(change))
    for (const change of spread(lost)) shown.lost.push(await draw(change))
    sets.set(name, shown)
  }
  return { sets, missing }
}

/** Some of many: the first of every class before the second of any. */
function spread(changes: readonly ImageChange[]): ImageChange[] {
  const seen = new Map<string, number>()
  const turns = changes.map((change, index) => {
    const turn = seen.get(change.truth) ?? 0
    seen.set(change.truth, turn + 1)
    return { change, turn, index }
  })
  turns.sort((a, b) => a.turn - b.turn || a.index - b.index)
  return turns.slice(0, MOST_OF_A_KIND).map(({ change }) => change)
}

async function thumbnail(path: string | undefined): Promise<Buffer | undefined> {
  if (path === undefined) return undefined
  try {
    const file = await stat(path)
    if (!file.isFile() || file.size > LARGEST_FILE) return undefined
    const { data, width, height } = await decodeImage(path)
    return await loadSharp()(data, { raw: { width, height, channels: 3 } })
      .resize(THUMBNAIL_SIDE, THUMBNAIL_SIDE, { fit: 'cover' })
      .jpeg({ quality: 72 })
      .toBuffer()
  } catch {
    return undefined
  }
}
