/**
 * The file system for the rest of the library, as promises over Node's callbacks. `node:fs/promises` is not used: a worker that
 * is terminated at the moment of such a call (stat, open, …) aborts the whole process in Node 20 ("Assertion failed: (argc) ==
 * (5)"), since the promise that it makes for itself is refused; the callbacks' requests are not. Same names, same errors.
 */
import fs, { type Stats } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'

export const access = promisify(fs.access)
export const copyFile = promisify(fs.copyFile)
const mkdir = promisify(fs.mkdir)
export const readdir = promisify(fs.readdir)
export const readFile = promisify(fs.readFile)
export const realpath = promisify(fs.realpath.native)
export const rename = promisify(fs.rename)
export const rm = promisify(fs.rm)
export const rmdir = promisify(fs.rmdir)
export const stat = promisify(fs.stat)
export const unlink = promisify(fs.unlink)

/**
 * Makes a folder and those above it; one that is there is fine. Not Node's `recursive`, which never ends where a folder cannot be
 * made and the file system says that there is none (/proc, /sys).
 */
export async function makeFolders(path: string): Promise<void> {
  try {
    await makeFolder(path)
  } catch (error) {
    const above = dirname(path)
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || above === path) throw error
    await makeFolders(above)
    await makeFolder(path)
  }
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST' && (await stat(path).catch(() => undefined))?.isDirectory()
    if (isThere !== true) throw error
  }
}

const openDescriptor = promisify(fs.open)
const closeDescriptor = promisify(fs.close)
const statDescriptor = promisify(fs.fstat)
const syncDescriptor = promisify(fs.fsync)
const readDescriptor = promisify(fs.read)
const writeDescriptor = promisify(fs.write)

/** An open file. Node closes those that a terminated worker leaves. */
export class FileHandle {
  private constructor(private fd: number) {}

  /** @param mode rights of a file that is created, before the process's mask */
  static async open(path: string, flags = 'r', mode = 0o666): Promise<FileHandle> {
    return new FileHandle(await openDescriptor(path, flags, mode))
  }

  /** Reads up to `length` bytes from `position` into `bytes` at `offset`; fewer at the file's end. */
  read(bytes: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }> {
    return readDescriptor(this.fd, bytes, offset, length, position)
  }

  /** Writes all of `bytes` at the file's position (at its end when opened with 'a'). */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      done += (await writeDescriptor(this.fd, bytes, done, bytes.byteLength - done)).bytesWritten
    }
  }

  stat(): Promise<Stats> {
    return statDescriptor(this.fd)
  }

  sync(): Promise<void> {
    return syncDescriptor(this.fd)
  }

  /** The second time does nothing: the number may be another file's by then. */
  async close(): Promise<void> {
    const { fd } = this
    this.fd = -1
    if (fd >= 0) await closeDescriptor(fd)
  }
}
