/** Images named on a command line: files, folders (every image below) and patterns, found one at a time. */

import { join, normalize, sep } from 'node:path'
import { CambiumError, messageOf } from '../errors.js'
import { stat } from '../files.js'
import { isImageName } from './image-folder.js'
import { listFolder } from './list-folder.js'

/**
 * Paths in the order given, and by name within a folder. A file is taken as it is, also when it does not exist: who reads it says
 * so. In a pattern `*` and `?` stand for parts of a name and `**` for any folders.
 * @throws E_NOT_FOUND for a folder or a pattern without images
 */
export async function* imagePaths(inputs: Iterable<string>): AsyncGenerator<string, void, undefined> {
  for (const input of inputs) {
    const info = await stat(input).catch(() => undefined)
    if (info?.isDirectory()) yield* orThrow(input, 'a folder with images', imagesBelow(input))
    else if (info === undefined && /[*?]/.test(input)) yield* orThrow(input, 'images that match the pattern', matches(input))
    else yield input
  }
}

async function* orThrow(input: string, expected: string, paths: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let found = false
  for await (const path of paths) {
    found = true
    yield path
  }
  if (!found) throw new CambiumError('E_NOT_FOUND', `${input}: expected ${expected}, got none`)
}

async function* matches(pattern: string): AsyncGenerator<string, void, undefined> {
  const parts = normalize(pattern).split(sep)
  const fixed = parts.findIndex((part) => /[*?]/.test(part))
  const wanted = new RegExp(`^${parts.map(patternOf).join('')}$`)
  const base = parts.slice(0, fixed).join(sep)
  for await (const path of imagesBelow(base === '' ? (pattern.startsWith(sep) ? sep : '.') : base)) {
    if (wanted.test(`${path}${sep}`)) yield path
  }
}

/** Each part ends with its separator, so that `**` may stand for none. */
function patternOf(part: string): string {
  const end = `\\${sep}`
  if (part === '**') return `(?:[^${end}]+${end})*`
  const name = part.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', `[^${end}]*`)
  return `${name.replaceAll('?', `[^${end}]`)}${end}`
}

async function* imagesBelow(folder: string): AsyncGenerator<string, void, undefined> {
  const entries = await listFolder(folder).catch((error) => {
    throw new CambiumError('E_NOT_FOUND', `${folder}: expected a folder that can be read, got ${messageOf(error)}`, { cause: error })
  })
  for (const { name, isFolder } of entries) {
    const path = join(folder, name)
    if (isFolder) yield* imagesBelow(path)
    else if (isImageName(name)) yield path
  }
}
