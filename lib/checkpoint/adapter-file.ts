// An R-Adapter on disk: adapter_config.json (what it is, of which base) and adapter_model.safetensors (its factors).
import { join } from 'node:path'
import { z } from 'zod'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'
import { readAdapterJson } from '../formats/adapter-folder.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { writeFolder } from '../formats/atomic-folder.js'
import type { Checkpoint } from '../formats/checkpoint.js'
import { openSafetensors } from '../formats/safetensors-read.js'
import { writeSafetensors } from '../formats/safetensors-write.js'
import { RAdapter } from '../methods/r-adapter.js'
import type { Clip } from '../models/clip.js'
import type { Tensor } from '../tensor.js'
import { fingerprint } from './fingerprint.js'
import { fillParameters, parameterToWrite } from './parameter-file.js'

const ADAPTER_VERSION = 1

const schema = z.looseObject({
  cambium_version: z.literal(ADAPTER_VERSION),
  method: z.literal('r-adapter'),
  base: z.string(),
  rank: z.number().int().positive().nullable(),
  scale: z.number().nullable(),
  drop: z.number(),
  drop_by: z.enum(['adapter', 'token']),
  alpha: z.number().nullable(),
})

/** What is kept of an R-Adapter beside its factors. */
export interface AdapterInfo {
  /** chosen on validation; undefined when nothing was chosen */
  alpha?: number
}

/** Writes an adapter; `averages` in its parameters' place when given. @throws E_IO, E_NO_SPACE */
export async function saveAdapter(
  adapter: RAdapter,
  folder: string,
  averages?: ReadonlyMap<string, Tensor>,
  info: AdapterInfo = {},
): Promise<void> {
  const { rank, scale, drop = 0, dropBy = 'adapter' } = adapter.options
  const tensors = adapter.parameters.map((parameter) => parameterToWrite(parameter, averages?.get(parameter.name)))
  const base = await fingerprint(adapter.clip.weights.checkpoint)
  const config = {
    cambium_version: ADAPTER_VERSION,
    method: 'r-adapter',
    base,
    rank: rank ?? null,
    scale: scale ?? null,
    drop,
    drop_by: dropBy,
    alpha: info.alpha ?? null,
  }
  await writeFolder(folder, async (aside) => {
    await writeSafetensors(join(aside, 'adapter_model.safetensors'), tensors)
    await writeFileAtomic(join(aside, 'adapter_config.json'), `${JSON.stringify(config, null, 2)}\n`)
  })
}

/** What an adapter's folder says about itself. @throws E_NOT_FOUND, E_ADAPTER for a malformed configuration */
export async function readAdapterConfig(folder: string): Promise<z.infer<typeof schema>> {
  const raw = await readAdapterJson(folder)
  if (!raw) throw new CambiumError('E_NOT_FOUND', `${folder}: expected adapter_config.json, got none`)
  const parsed = schema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw new CambiumError('E_ADAPTER', `${join(folder, 'adapter_config.json')}: ${problemText(schema, parsed.error, raw)}`)
}

/** @param known the checkpoint's fingerprint, if it was taken before @throws E_BASE when an adapter was trained on another checkpoint */
export async function requireBase(base: string, checkpoint: Checkpoint, folder: string, known?: Promise<string>): Promise<void> {
  const own = await (known ?? fingerprint(checkpoint))
  if (base === own) return
  throw new CambiumError(
    'E_BASE',
    `${folder}: expected the base that it was trained on (${base.slice(0, 19)}…), got ${checkpoint.folder} (${own.slice(0, 19)}…)`,
  )
}

/**
 * Reads an adapter for its base.
 * @throws E_NOT_FOUND, E_ADAPTER for a malformed configuration or tensors that do not fit, E_BASE for another base
 */
export async function loadAdapter(clip: Clip, folder: string): Promise<{ adapter: RAdapter; info: AdapterInfo }> {
  const { base, rank, scale, drop, drop_by, alpha } = await readAdapterConfig(folder)
  await requireBase(base, clip.weights.checkpoint, folder)
  const adapter = new RAdapter(clip, { rank: rank ?? undefined, scale: scale ?? undefined, drop, dropBy: drop_by })
  try {
    await fillParameters(adapter.parameters, await openSafetensors(join(folder, 'adapter_model.safetensors')), 'E_ADAPTER')
  } catch (error) {
    adapter.dispose()
    throw error
  }
  return { adapter, info: { alpha: alpha ?? undefined } }
}
