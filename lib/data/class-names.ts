/** Names of classes, from the folders or from a file of names. */

import { CambiumError, messageOf } from '../errors.js'
import { readFile } from '../files.js'
import { isJsonObject } from '../formats/json-fields.js'

/** As a list in the order of the classes, or by folder; absent folders keep the name made from the folder. */
export type ClassNames = readonly string[] | Readonly<Record<string, string>>

/** `golden_retriever` -> `golden retriever` */
export function nameOfFolder(folder: string): string {
  return folder.replaceAll('_', ' ').replace(/\s+/g, ' ').trim()
}

/**
 * Reads names from a file: a JSON list, a JSON object folder -> name, or a text with a name on each line.
 * Errors: E_NOT_FOUND, E_CLASS_NAMES.
 */
export async function readClassNames(path: string): Promise<ClassNames> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new CambiumError('E_NOT_FOUND', `${path}: expected a file of class names, got ${messageOf(error)}`, { cause: error })
  }
  if (!path.endsWith('.json'))
    return text
      .split(/\r?\n/)
      .map((line) => line.trim())
      .filter((line) => line !== '')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new CambiumError('E_CLASS_NAMES', `${path}: expected JSON, got ${messageOf(error)}`, { cause: error })
  }
  const isName = (entry: unknown): entry is string => typeof entry === 'string' && entry !== ''
  if (Array.isArray(value) && value.every(isName)) return value
  if (isJsonObject(value) && Object.values(value).every(isName)) return value as Record<string, string>
  throw new CambiumError('E_CLASS_NAMES', `${path}: expected a list of names or an object folder -> name, got something else`)
}

/** The name of each folder. Throws E_CLASS_NAMES when a list has another length, or an object names a folder that is not there. */
export function namesOfFolders(folders: readonly string[], given: ClassNames | undefined): string[] {
  if (given === undefined) return folders.map(nameOfFolder)
  if (Array.isArray(given)) {
    if (given.length === folders.length) return [...given]
    throw new CambiumError('E_CLASS_NAMES', `classNames: expected a name for each of ${folders.length} folders, got ${given.length}`)
  }
  const names = given as Readonly<Record<string, string>>
  const unknown = Object.keys(names).find((folder) => !folders.includes(folder))
  if (unknown !== undefined)
    throw new CambiumError('E_CLASS_NAMES', `classNames: expected names of folders, got ${JSON.stringify(unknown)}`)
  return folders.map((folder) => (Object.hasOwn(names, folder) ? names[folder] : nameOfFolder(folder)))
}
