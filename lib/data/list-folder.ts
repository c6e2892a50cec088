/** What lies in a folder of images: symbolic links count as what they lead to, hidden names not at all. */
import { join, sep } from 'node:path'
import { readdir, realpath, stat } from '../files.js'

export interface Listed {
  readonly name: string
  readonly isFolder: boolean
}

/** By name, the same on every machine. A link to a folder above would never end and is left out. @throws what the file system says */
export async function listFolder(path: string): Promise<Listed[]> {
  const entries = (await readdir(path, { withFileTypes: true })).filter(({ name }) => !name.startsWith('.'))
  const out: Listed[] = []
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))) {
    const { name } = entry
    const link = entry.isSymbolicLink() && (await stat(join(path, name)).catch(() => undefined))?.isDirectory()
    if (!link) out.push({ name, isFolder: entry.isDirectory() })
    else if (!(await isAbove(join(path, name), path))) out.push({ name, isFolder: true })
  }
  return out
}

async function isAbove(link: string, folder: string): Promise<boolean> {
  const [to, from] = [await realpath(link), await realpath(folder)]
  return `${from}${sep}`.startsWith(to.endsWith(sep) ? to : `${to}${sep}`)
}
