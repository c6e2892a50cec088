// Image packs: NAME.jpgpack (JPEG files one after another), NAME.json (records [offset, bytes, label, path], sha256) and
// NAME.task.json (split into indices of records, class names by label, templates).
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/** Reads a pack and checks its bytes against the recorded sha256. */
export function openPack(folder, name) {
  const index = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'))
  const bytes = readFileSync(join(folder, `${name}.jpgpack`))
  const sum = createHash('sha256').update(bytes).digest('hex')
  if (sum !== index.sha256) throw new Error(`${name}.jpgpack: expected sha256 ${index.sha256}, got ${sum}`)
  return { ...index, bytes }
}

export function openTask(folder, name) {
  return JSON.parse(readFileSync(join(folder, `${name}.task.json`), 'utf8'))
}

/** The content is JPEG whatever the original path ended in. */
export const fileName = ([, , , original]) => basename(original).replace(/\.\w+$/, '.jpg')

/** Writes one record under a folder. */
export function writeRecord(pack, record, folder) {
  const [offset, length] = record
  const file = join(folder, fileName(record))
  mkdirSync(folder, { recursive: true })
  writeFileSync(file, pack.bytes.subarray(offset, offset + length), { flag: 'wx' })
  return file
}

export function writeClasses(folder, classes, templates) {
  writeFileSync(join(folder, 'classes.json'), `${JSON.stringify({ classes, templates }, null, 2)}\n`)
}
