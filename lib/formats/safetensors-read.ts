/** Opening a safetensors file: the header is read and validated, the data stays on disk until it is asked for. */

import { CambiumError, messageOf } from '../errors.js'
import { FileHandle } from '../files.js'
import type { TensorRead } from '../native.js'
import { LOOK } from './file-kind.js'
import { headerLength, parseHeader, reject, type TensorInfo } from './safetensors-header.js'

/** A tensor of an open checkpoint, with the file it lies in and that file's size when its header was validated. */
export interface StoredTensor extends TensorInfo {
  readonly path: string
  readonly fileSize: number
}

/** What the native core is asked to read all of a tensor. */
export function storedRequest({ path, offset, count, dtype, fileSize }: StoredTensor): TensorRead {
  return { path, offset, count, from: dtype, expectedSize: fileSize }
}

export interface SafetensorsFile {
  readonly path: string
  readonly size: number
  readonly tensors: ReadonlyMap<string, StoredTensor>
  readonly metadata: ReadonlyMap<string, string>
}

/**
 * Validates the header of `path`. The file is closed again; who reads data checks `fileSize` against the file then.
 * Errors: E_NOT_FOUND, E_IO, and E_SAFETENSORS_… for each rule of the format.
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const handle = await openFile(path)
  try {
    const info = await handle.stat()
    if (!info.isFile()) throw new CambiumError('E_IO', `${path}: expected a safetensors file, got a folder or a device`)
    const first = await readExactly(handle, 0, Math.min(LOOK, info.size), path)
    const length = headerLength(first, info.size, path)
    const header = parseHeader(await readExactly(handle, 8, length, path), info.size, path)
    const tensors = new Map<string, StoredTensor>()
    for (const [name, tensor] of header.tensors) tensors.set(name, { ...tensor, path, fileSize: info.size })
    return { path, size: info.size, tensors, metadata: header.metadata }
  } finally {
    await handle.close()
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await FileHandle.open(path, 'r')
  } catch (error) {
    const missing = (error as { code?: unknown }).code === 'ENOENT'
    throw new CambiumError(
      missing ? 'E_NOT_FOUND' : 'E_IO',
      `${path}: expected a safetensors file, got ${missing ? 'no such file' : messageOf(error)}`,
      { cause: error },
    )
  }
}

async function readExactly(handle: FileHandle, position: number, length: number, path: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  let done = 0
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, position + done)
    if (bytesRead === 0) reject('HEADER_LENGTH', path, `${length} bytes of header`, `${done}`)
    done += bytesRead
  }
  return bytes
}
