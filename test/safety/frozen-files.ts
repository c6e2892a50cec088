/**
 * Stops the world's files at the n-th change, as a kill or a power cut does, inside the test's process: that change is not made
 * (a write is made by half), and nothing after it. What the code under test still does meets files that never answer.
 *
 * Functions of a module cannot be replaced: a test that uses this says
 *   jest.mock('../../lib/files.js', () => ({ ...jest.requireActual('../../lib/files.js'), __esModule: true }))
 */
import * as files from '../../lib/files.js'
import { FileHandle } from '../../lib/files.js'

const CHANGES = ['rename', 'rm', 'rmdir', 'unlink', 'makeFolders', 'copyFile'] as const
const HANDLE_CHANGES = ['write', 'sync'] as const

type Method = (...args: never[]) => Promise<unknown>
const never = new Promise<never>(() => undefined)

/**
 * Runs `work` until it ends or until change number `limit` (from 0) is due.
 * @returns how many changes were made, and whether the work came to its end
 */
export async function stopAtChange(limit: number, work: () => Promise<unknown>): Promise<{ changes: number; ended: boolean }> {
  let changes = 0
  let stop = () => {}
  const stopped = new Promise<false>((resolve) => {
    stop = () => resolve(false)
  })
  const opened = new Set<FileHandle>()
  const writes = new WeakMap<FileHandle, number>()
  /** Whether this change may be made; the one at the limit stops everything. */
  const allowed = () => {
    if (changes < limit) return ++changes > 0
    stop()
    return false
  }
  const restore: (() => void)[] = []
  const replace = (object: object, name: string, make: (original: Method) => Method) => {
    const methods = object as Record<string, Method>
    const original = methods[name]
    methods[name] = make(original)
    restore.push(() => {
      methods[name] = original
    })
  }
  const { prototype } = FileHandle
  for (const name of CHANGES)
    replace(
      files,
      name,
      (original) =>
        async (...args) =>
          allowed() ? original.apply(files, args) : never,
    )
  for (const name of HANDLE_CHANGES)
    replace(
      prototype,
      name,
      (original) =>
        async function (this: FileHandle, ...args: never[]) {
          // Of a long file's many writes these few stand for all.
          const write = writes.get(this) ?? 0
          if (name === 'write') writes.set(this, write + 1)
          if ((name === 'write' && write > 1 && write % 32 !== 0) || allowed()) return original.apply(this, args)
          const [bytes] = args as unknown as [Uint8Array?]
          if (name === 'write' && bytes !== undefined) await original.apply(this, [bytes.subarray(0, bytes.length >> 1)] as never[])
          return never
        },
    )
  replace(FileHandle, 'open', (original) => async (...args) => {
    const flags = (args as unknown[])[1]
    if (typeof flags === 'string' && flags !== 'r' && !allowed()) return never
    const handle = (await original.apply(FileHandle, args)) as FileHandle
    opened.add(handle)
    return handle
  })
  replace(
    prototype,
    'close',
    (original) =>
      async function (this: FileHandle, ...args: never[]) {
        opened.delete(this)
        return original.apply(this, args)
      },
  )
  try {
    const ended = await Promise.race([work().then(() => true), stopped])
    return { changes, ended }
  } finally {
    for (const undo of restore.reverse()) undo()
    for (const handle of opened) await handle.close().catch(() => undefined)
  }
}
