/**
 * What a merged folder knows about its past: cambium_merge.json (of which base, with which adapters, which tensors) and, when
 * asked for, the original bytes of the changed tensors, so that unmerging gives back the base bit for bit.
 */
import { basename, join } from 'node:path'
import { z } from 'zod'
import { fingerprint } from '../checkpoint/fingerprint.js'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import type { Checkpoint } from '../formats/checkpoint.js'
import { readJsonObject } from '../formats/json-fields.js'
import { openSafetensors } from '../formats/safetensors-read.js'
import { encodeHeader } from '../formats/safetensors-write.js'
import { type MergeSegment, native } from '../native.js'
import type { MergedAdapter } from './open-adapters.js'

const PROVENANCE = 'cambium_merge.json'
export const ORIGINAL = 'cambium_original.safetensors'
/** Those of an older merge go with its weights. */
export const ORIGINAL_FILES: readonly string[] = [PROVENANCE, ORIGINAL]

const schema = z.object({
  version: z.literal(1),
  /** fingerprint of the checkpoint before */
  base: z.string(),
  adapters: z.array(
    z.object({ name: z.string(), fingerprint: z.string(), kind: z.enum(['lora', 'dora', 'r-adapter']), weight: z.number() }),
  ),
  changed: z.array(z.string()),
})

export type Provenance = z.infer<typeof schema>

export async function writeProvenance(
  checkpoint: Checkpoint,
  adapters: readonly MergedAdapter[],
  changed: readonly { readonly name: string }[],
  folder: string,
): Promise<void> {
  const provenance: Provenance = {
    version: 1,
    base: await fingerprint(checkpoint),
    adapters: await Promise.all(
      adapters.map(async ({ path, kind, weight }) => ({ name: basename(path), fingerprint: await adapterFingerprint(path), kind, weight })),
    ),
    changed: changed.map(({ name }) => name),
  }
  await writeFileAtomic(join(folder, PROVENANCE), `${JSON.stringify(provenance, null, 2)}\n`)
}

/** undefined for a folder that was not merged by us. @throws E_MERGE for a malformed one */
export async function readProvenance(folder: string): Promise<Provenance | undefined> {
  const raw = await readJsonObject(join(folder, PROVENANCE))
  if (raw === undefined) return undefined
  const parsed = schema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw new CambiumError('E_MERGE', `${join(folder, PROVENANCE)}: ${problemText(schema, parsed.error, raw)}`)
}

/** Tells one adapter from another. */
export async function adapterFingerprint(folder: string): Promise<string> {
  const { path, tensors, metadata } = await openSafetensors(join(folder, 'adapter_model.safetensors'))
  return fingerprint({ folder, files: [path], tensors, metadata })
}

/** Copies the changed tensors as they were into one file. */
export async function keepOriginal(
  checkpoint: Checkpoint,
  changed: readonly { readonly name: string }[],
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  const tensors = changed.flatMap(({ name }) => checkpoint.tensors.get(name) ?? [])
  const paths = [...new Set(tensors.map(({ path }) => path))]
  const sources = paths.map((path) => ({ path, size: tensors.find((tensor) => tensor.path === path)?.fileSize ?? 0 }))
  const header = encodeHeader(tensors, { format: 'pt' })
  let to = header.byteLength
  const segments: MergeSegment[] = []
  for (const { path, offset, bytes } of tensors) {
    if (bytes > 0) segments.push({ source: paths.indexOf(path), from: offset, to, bytes })
    to += bytes
  }
  signal?.throwIfAborted()
  await native.mergeFile({ sources, target: join(folder, ORIGINAL), header, size: to, segments }, new BigInt64Array(2))
}
