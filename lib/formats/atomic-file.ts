/**
 * A file that appears whole or not at all: written aside in the same folder, synced, renamed over the target, the folder
 * synced. Who has the old file open keeps it. Bytes are handed to the system as they come, so a checkpoint larger than memory
 * can be streamed.
 */

import { basename, dirname, join } from 'node:path'
import { CambiumError, messageOf } from '../errors.js'
import { FileHandle, makeFolders, rename, stat, unlink } from '../files.js'
import { asideName, removeLeftovers } from './leftovers.js'

export class AtomicFile {
  private constructor(
    readonly path: string,
    private readonly aside: string,
    private handle: FileHandle | undefined,
  ) {}

  /** Creates the file aside, with the rights of the file it will replace. Errors: E_IO, E_NOT_FOUND, E_NO_SPACE. */
  static async open(path: string): Promise<AtomicFile> {
    await removeLeftovers(dirname(path))
    for (;;) {
      const aside = join(dirname(path), asideName(basename(path)))
      try {
        const handle = await FileHandle.open(aside, 'wx', await modeOf(path))
        return new AtomicFile(path, aside, handle)
      } catch (error) {
        // Left behind by a killed process that had our number: the next name is free.
        if ((error as { code?: unknown }).code !== 'EEXIST') throw ioError(path, error)
      }
    }
  }

  /** Appends all of `bytes`. */
  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.expectOpen().write(bytes)
    } catch (error) {
      throw ioError(this.path, error)
    }
  }

  /** Makes the file appear. On an error the target is as it was and nothing is left aside. */
  async commit(): Promise<void> {
    const handle = this.expectOpen()
    try {
      await handle.sync()
      await handle.close()
      this.handle = undefined
      await rename(this.aside, this.path)
    } catch (error) {
      await this.abort(true)
      throw ioError(this.path, error)
    }
    await syncFolder(dirname(this.path))
  }

  /** Gives up: closes and removes what was written. Does nothing after a commit. */
  async abort(force = false): Promise<void> {
    if (this.handle === undefined && !force) return
    await this.handle?.close().catch(() => undefined)
    this.handle = undefined
    await unlink(this.aside).catch(() => undefined)
  }

  private expectOpen(): FileHandle {
    if (this.handle === undefined) throw new CambiumError('E_IO', `${this.path}: expected a file that is still being written`)
    return this.handle
  }
}

/** Writes a whole file, a text as UTF-8. */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  const file = await AtomicFile.open(path)
  try {
    await file.write(typeof content === 'string' ? new TextEncoder().encode(content) : content)
    await file.commit()
  } finally {
    await file.abort()
  }
}

/** Makes a folder and those above it; one that is there is fine. Errors: E_IO, E_NO_SPACE. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeFolders(path)
  } catch (error) {
    throw ioError(path, error)
  }
}

async function modeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).mode & 0o777
  } catch {
    return 0o666
  }
}

/** Some network file systems cannot sync a folder; the rename stands all the same. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await FileHandle.open(folder, 'r').catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close().catch(() => undefined)
}

/** The library's error for one of the file system's; any other error as it is. */
export function ioError(path: string, error: unknown): unknown {
  const { code } = error as { code?: unknown }
  // Errors of ours, the native core's too, and the reasons of signals are no errors of files.
  if (typeof code !== 'string' || code.startsWith('E_')) return error
  const ours = code === 'ENOENT' ? 'E_NOT_FOUND' : code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG' ? 'E_NO_SPACE' : 'E_IO'
  return new CambiumError(ours, `${path}: ${messageOf(error)}`, { cause: error })
}
