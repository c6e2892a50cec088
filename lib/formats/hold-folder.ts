/**
 * One process at a time writes a run's folder. The mark is a file aside (leftovers.ts) with the process in its name, so that what a
 * killed process leaves holds nothing and is removed by the next write.
 */
import { join } from 'node:path'
import process from 'node:process'
import { CambiumError } from '../errors.js'
import { readdir, rm } from '../files.js'
import { makeFolder, writeFileAtomic } from './atomic-file.js'
import { asideName, removeLeftovers } from './leftovers.js'

const MARK = /^\.writer\.(\d+)-/

/**
 * Makes the folder and marks it as this process's until what it resolves to is called. Workers of one process are not told apart.
 * @throws E_OUT when another process that lives has marked it; E_IO, E_NO_SPACE
 */
export async function holdFolder(folder: string): Promise<() => Promise<void>> {
  await makeFolder(folder)
  await removeLeftovers(folder)
  const mark = join(folder, asideName('writer'))
  const release = () => rm(mark, { force: true }).catch(() => undefined)
  await writeFileAtomic(mark, '')
  // After one's own mark: of two that come at once at least one sees the other.
  const others = (await readdir(folder)).flatMap((name) => MARK.exec(name)?.[1] ?? [])
  const other = others.find((writer) => Number(writer) !== process.pid)
  if (other === undefined) return release
  await release()
  throw new CambiumError('E_OUT', `out: expected a folder that no other process writes, got ${folder}, where process ${other} is at work`)
}
