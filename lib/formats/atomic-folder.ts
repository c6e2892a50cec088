/**
 * Files of one folder that change together: weights and the configuration that describes them.
 *
 * They are written aside, in a folder inside the target. That folder then gets the name of the commit record, and this one rename
 * decides: a process killed before it leaves the target as it was; after it the change is made, and whoever opens or
 * writes the folder next finishes what was begun. Finishing renames each file into place, removes what the change made stale,
 * and the record last. Files of other names are not touched.
 */

import { basename, join } from 'node:path'
import { CambiumError } from '../errors.js'
import { access, readdir, readFile, rename, rm, rmdir } from '../files.js'
import { ioError, makeFolder, syncFolder, writeFileAtomic } from './atomic-file.js'
import { asideName, removeLeftovers } from './leftovers.js'

/** Inside the target while a change is being put in place. */
export const COMMIT_RECORD = '.cambium-commit'
/** Inside the record: names that the change removes. */
const STALE = '.stale.json'

/**
 * @param write fills the folder that it is given; its files then replace those of `folder`, which is made when absent
 * @param replaces tells names that the change stands for: those of the old state that were not written again are removed
 * @throws what `write` throws, E_IO, E_NO_SPACE; the folder then is as it was
 */
export async function writeFolder(
  folder: string,
  write: (aside: string) => Promise<void>,
  replaces: (name: string) => boolean = () => false,
): Promise<void> {
  await makeFolder(folder)
  await finishFolder(folder)
  await removeLeftovers(folder)
  const aside = join(folder, asideName('folder'))
  try {
    await makeFolder(aside)
    await write(aside)
    const written = new Set(await readdir(aside))
    const stale = (await readdir(folder)).filter((name) => replaces(name) && !written.has(name))
    await writeFileAtomic(join(aside, STALE), JSON.stringify(stale))
    await rename(aside, join(folder, COMMIT_RECORD))
  } catch (error) {
    await rm(aside, { recursive: true, force: true }).catch(() => undefined)
    throw ioError(folder, error)
  }
  await syncFolder(folder)
  await finishFolder(folder)
}

/** Puts in place what a killed process had decided; does nothing for any other folder. Errors: E_IO. */
export async function finishFolder(folder: string): Promise<void> {
  const record = join(folder, COMMIT_RECORD)
  const found = await access(record).then(
    () => true,
    () => false,
  )
  if (!found) return
  try {
    const names = (await readdir(record)).filter((name) => name !== STALE)
    for (const name of names.sort(configurationLast)) await rename(join(record, name), join(folder, name))
    for (const name of await staleNames(record)) await rm(join(folder, name), { force: true })
    await syncFolder(folder)
    await rm(join(record, STALE), { force: true })
    await rmdir(record)
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return // another process has finished it
    throw ioError(folder, error)
  }
  await syncFolder(folder)
}

/** Other programs take a folder with a configuration for a whole one. */
function configurationLast(a: string, b: string): number {
  const rank = (name: string) => (/^(adapter_)?config\.json$/.test(name) ? 1 : 0)
  return rank(a) - rank(b) || (a < b ? -1 : 1)
}

/** None when the list is gone: it is removed after all it names. */
async function staleNames(record: string): Promise<string[]> {
  const text = await readFile(join(record, STALE), 'utf8').catch(() => '[]')
  let names: unknown
  try {
    names = JSON.parse(text)
  } catch {
    names = undefined
  }
  const isPlain = (name: unknown): name is string => typeof name === 'string' && name !== '..' && basename(name) === name
  if (Array.isArray(names) && names.every(isPlain)) return names
  throw new CambiumError('E_IO', `${join(record, STALE)}: expected names of files, got something else`)
}
