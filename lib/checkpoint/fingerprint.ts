// What tells one base checkpoint from another, cheaply: names, types and shapes of all tensors and the first kilobyte of
// each. An adapter carries it, so that a wrong base is refused.
import { createHash } from 'node:crypto'
import { CambiumError } from '../errors.js'
import { FileHandle } from '../files.js'
import { ioError } from '../formats/atomic-file.js'
import type { Checkpoint } from '../formats/checkpoint.js'

/** `sha256:` and 64 hexadecimal digits. */
export async function fingerprint(checkpoint: Checkpoint): Promise<string> {
  const hash = createHash('sha256')
  const tensors = [...checkpoint.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  const files = new Map<string, FileHandle>()
  try {
    for (const path of checkpoint.files) files.set(path, await FileHandle.open(path))
    for (const { name, dtype, shape, offset, bytes, path } of tensors) {
      hash.update(`${name}\0${dtype}\0${shape.join(',')}\0`)
      const sample = Buffer.alloc(Math.min(1024, bytes))
      const { bytesRead } = (await files.get(path)?.read(sample, 0, sample.length, offset)) ?? { bytesRead: 0 }
      if (bytesRead < sample.length)
        throw new CambiumError(
          'E_FILE_CHANGED',
          `${path}: expected ${sample.length} bytes at ${offset}, got ${bytesRead}: the file has shrunk`,
        )
      hash.update(sample)
    }
  } catch (error) {
    throw ioError(checkpoint.folder, error)
  } finally {
    for (const file of files.values()) await file.close()
  }
  return `sha256:${hash.digest('hex')}`
}
