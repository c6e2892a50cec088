/**
 * One process at a time writes a run's folder. The mark is a file aside (leftovers.ts) with the process in its name, so that what a
 * killed process leaves holds nothing and is removed by the next write. It contains the life of that process: after a power failure
 * another program may have its number, for as long as the machine runs.
 */
import { join } from 'node:path'
import process from 'node:process'
import { CambiumError } from '../errors.js'
import { readdir, readFile, rm } from '../files.js'
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
  await writeFileAtomic(mark, (await lifeOf(process.pid)) ?? '')
  // After one's own mark: of two that come at once at least one sees the other.
  for (const name of await readdir(folder)) {
    const other = Number(MARK.exec(name)?.[1] ?? process.pid)
    if (other === process.pid || !(await isAtWork(other, join(folder, name)))) continue
    await release()
    throw new CambiumError('E_OUT', `out: expected a folder that no other process writes, got ${folder}, where process ${other} is at work`)
  }
  return release
}

/** Whether the process that made a mark lives; where that cannot be told from a later one of its number, it does. */
async function isAtWork(writer: number, mark: string): Promise<boolean> {
  const [marked, now] = await Promise.all([readFile(mark, 'utf8').catch(() => ''), lifeOf(writer)])
  return marked === '' || now === undefined || marked === now
}

/** The boot of the machine and when the process began: no other has both. undefined where the system does not say (it is not Linux). */
async function lifeOf(pid: number): Promise<string | undefined> {
  try {
    const [boot, stat] = await Promise.all([readFile('/proc/sys/kernel/random/boot_id', 'utf8'), readFile(`/proc/${pid}/stat`, 'utf8')])
    const began = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] // the 22nd of all; the second is a name, with any characters
    return `${boot.trim()} ${began}`
  } catch {
    return undefined
  }
}
