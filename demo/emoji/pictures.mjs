// Folders of pictures, rasterised once: FOLDER/CODE.png, or FOLDER/CODE-K.png for the variants of pretraining.

import { createHash } from 'node:crypto'
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { svgOf, writeImages } from './raster.mjs'
import { variantOf } from './variants.mjs'

const drawnBy = (vendor, concepts) => concepts.filter(({ drawings }) => drawings[vendor] !== undefined)

/** A folder inside `parent` that is another one when other drawings are asked for. */
function folderOf(parent, vendor, concepts, what) {
  const hash = createHash('sha256').update(`${what} ${concepts.map(({ code }) => code)}`)
  return join(parent, `${vendor}-${hash.digest('hex').slice(0, 12)}`)
}

/** Runs the jobs into a folder that is written aside and renamed, so that a folder that is there is complete. */
async function once(folder, jobsInto) {
  if (existsSync(folder)) return
  const aside = `${folder}.partial`
  rmSync(aside, { recursive: true, force: true })
  await writeImages(jobsInto(aside))
  renameSync(aside, folder)
}

/**
 * A vendor's drawings of the given concepts, as they are.
 * @returns [{ path, concept }]
 */
export async function drawPictures(parent, pack, vendor, concepts, size) {
  const drawn = drawnBy(vendor, concepts)
  const folder = folderOf(parent, vendor, drawn, size)
  await once(folder, (aside) =>
    drawn.map(({ code, drawings }) => ({ svg: svgOf(pack, drawings[vendor], size), path: join(aside, `${code}.png`) })),
  )
  return drawn.map((concept) => ({ path: join(folder, `${concept.code}.png`), concept }))
}

/**
 * `count` pictures of each drawing: the first as it is, the others variants of it.
 * @returns [{ path, concept }]
 */
export async function drawVariants(parent, pack, vendor, concepts, { size, count }) {
  const drawn = drawnBy(vendor, concepts)
  const folder = folderOf(parent, vendor, drawn, `${size}x${count}`)
  const all = drawn.flatMap((concept) => Array.from({ length: count }, (_, k) => ({ concept, k })))
  const name = (concept, k) => `${concept.code}-${k}.png`
  await once(folder, (aside) =>
    all.map(({ concept, k }) => {
      const icon = concept.drawings[vendor]
      const picture = k === 0 ? { svg: svgOf(pack, icon, size) } : variantOf(pack, icon, size, `${vendor}/${concept.code}/${k}`)
      return { ...picture, path: join(aside, name(concept, k)) }
    }),
  )
  return all.map(({ concept, k }) => ({ path: join(folder, name(concept, k)), concept }))
}
