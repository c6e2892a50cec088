/**
 * Names of what is written aside, and the removal of what killed processes left of it: `.<what>.<process>-<number>.cambium.tmp`.
 * Only names of this form are ever removed, and only when their process is gone; a worker's go with its process.
 */
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import process from 'node:process'
import { readdir, rm, stat } from '../files.js'

const ASIDE = /^\..+\.(\d+)-\d+\.cambium\.tmp$/

/** A name that nobody uses: workers of one process share its number, so chance tells them apart. */
export function asideName(what: string): string {
  return `.${what}.${process.pid}-${randomInt(2 ** 47)}.cambium.tmp`
}

/** Never fails: what cannot be removed stays for the next time. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const writer = ASIDE.exec(name)?.[1]
    if (writer === undefined) continue
    const path = join(folder, name)
    if (await isGone(Number(writer), path)) await rm(path, { recursive: true, force: true }).catch(() => undefined)
  }
}

/** In a container every run may have the same number: then what is older than this process was another's. */
async function isGone(writer: number, path: string): Promise<boolean> {
  if (writer !== process.pid) {
    try {
      process.kill(writer, 0)
      return false
    } catch (error) {
      return (error as { code?: unknown }).code === 'ESRCH'
    }
  }
  const info = await stat(path).catch(() => undefined)
  return info !== undefined && info.mtimeMs < Date.now() - 1000 * process.uptime()
}
