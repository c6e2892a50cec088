/** The folder of an adapter, PEFT's or ours, as it is asked for: what stands there instead is told. */
import { join } from 'node:path'
import { CambiumError } from '../errors.js'
import { stat } from '../files.js'
import { finishFolder } from './atomic-folder.js'
import { kindOfFile } from './file-kind.js'
import { type JsonObject, readJsonObject } from './json-fields.js'

/** @throws E_NOT_FOUND, E_ADAPTER for a file */
export async function requireAdapterFolder(folder: string): Promise<void> {
  const info = await stat(folder).catch(() => undefined)
  const expected = `${folder}: expected the folder of an adapter`
  if (info === undefined) throw new CambiumError('E_NOT_FOUND', `${expected}, got no such folder`)
  if (!info.isDirectory())
    throw new CambiumError('E_ADAPTER', `${expected}, got a file: ${(await kindOfFile(folder)) ?? 'of tensors, perhaps'}`)
  await finishFolder(folder)
}

/** Its adapter_config.json; undefined where it has none. @throws those of {@link requireAdapterFolder}, E_CONFIG */
export async function readAdapterJson(folder: string): Promise<JsonObject | undefined> {
  await requireAdapterFolder(folder)
  return readJsonObject(join(folder, 'adapter_config.json'))
}
