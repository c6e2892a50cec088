/**
 * A checkpoint on disk, one file or many: its tensors by name. Reading is lazy and writing is streamed; both work on names as
 * they are in the file (see layouts.ts for what they mean).
 */

import { basename, dirname, extname, join, relative, sep } from 'node:path'
import { CambiumError } from '../errors.js'
import { readdir, realpath, rm, stat } from '../files.js'
import { ioError, writeFileAtomic } from './atomic-file.js'
import { finishFolder } from './atomic-folder.js'
import { isPickle, isTextual, kindOfFile } from './file-kind.js'
import { openSafetensors, type StoredTensor } from './safetensors-read.js'
import { type TensorToWrite, tensorBytes, type WriteOptions, writeSafetensors } from './safetensors-write.js'
import { readShardIndex, shardName } from './shard-index.js'

export interface Checkpoint {
  /** The folder that holds the files. */
  readonly folder: string
  readonly files: readonly string[]
  readonly tensors: ReadonlyMap<string, StoredTensor>
  readonly metadata: ReadonlyMap<string, string>
}

/** Names that a folder is searched for, in this order. */
const STEMS = ['model', 'open_clip_model'] as const
const PICKLES = new Set(['.bin', '.pt', '.pth', '.ckpt', '.pkl'])
/** Of formats that are not read. */
const OTHER_WEIGHTS = new Set(['.gguf', '.onnx', '.h5', '.keras', '.msgpack', '.tflite', '.npz', '.safetensors'])

/**
 * Opens a safetensors file, or the one or sharded checkpoint of a folder.
 * Errors: E_NOT_FOUND; E_PICKLE for pickled weights; E_LINK for a link out of the folder; E_SHARD_INDEX; E_SHARD_MISSING;
 * E_SAFETENSORS_….
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const info = await stat(path).catch((error) => {
    if (error.code !== 'ENOENT') throw ioError(path, error)
    // Often the name of a model on a hub.
    throw new CambiumError('E_NOT_FOUND', `${path}: expected a checkpoint on disk (nothing is downloaded), got no such file or folder`)
  })
  if (!info.isDirectory()) {
    if (PICKLES.has(extname(path)) && (await looksPickled(path))) throw pickleError(path)
    if (path.endsWith('.index.json')) return openSharded(dirname(path), basename(path))
    return openSingle(dirname(path), path)
  }
  await finishFolder(path)
  const names = new Set(await readdir(path).catch((error) => Promise.reject(ioError(path, error))))
  for (const stem of STEMS) {
    const single = `${stem}.safetensors`
    const index = `${stem}.safetensors.index.json`
    if (names.has(single)) return openSingle(path, await insideFolder(path, single))
    if (names.has(index)) return openSharded(path, index)
  }
  const pickle = [...names].sort().find((name) => PICKLES.has(extname(name)))
  if (pickle !== undefined && (await looksPickled(join(path, pickle)))) throw pickleError(join(path, pickle))
  throw new CambiumError(
    'E_NOT_FOUND',
    `${path}: expected model.safetensors, model.safetensors.index.json or open_clip_model.safetensors, got ${await otherWeights(path, names)}`,
  )
}

/** What a folder without a checkpoint has that people take for one. */
async function otherWeights(folder: string, names: ReadonlySet<string>): Promise<string> {
  const [other] = [...names].sort().filter((name) => PICKLES.has(extname(name)) || OTHER_WEIGHTS.has(extname(name)))
  if (other === undefined) return names.size === 0 ? 'an empty folder' : 'none of them'
  const kind = await kindOfFile(join(folder, other))
  return kind === undefined ? other : `${other}, ${kind}`
}

/** By its bytes, and where these say nothing by its name. */
async function looksPickled(path: string): Promise<boolean> {
  const kind = await kindOfFile(path)
  return kind === undefined || isPickle(kind) || isTextual(kind)
}

async function openSingle(folder: string, path: string): Promise<Checkpoint> {
  const file = await openSafetensors(path).catch(async (error) => {
    throw isPickle(await kindOfFile(path)) ? pickleError(path) : error
  })
  return { folder, files: [path], tensors: file.tensors, metadata: file.metadata }
}

async function openSharded(folder: string, index: string): Promise<Checkpoint> {
  const map = await readShardIndex(join(folder, index))
  const tensors = new Map<string, StoredTensor>()
  const metadata = new Map<string, string>()
  const namesOf = new Map<string, string[]>()
  for (const [name, shard] of map) {
    const names = namesOf.get(shard)
    if (names === undefined) namesOf.set(shard, [name])
    else names.push(name)
  }
  const files = [...namesOf.keys()].sort()
  for (const shard of files) {
    const file = await openSafetensors(await insideFolder(folder, shard))
    for (const [key, value] of file.metadata) metadata.set(key, value)
    for (const name of namesOf.get(shard) ?? []) {
      const tensor = file.tensors.get(name)
      if (tensor === undefined)
        throw new CambiumError('E_SHARD_INDEX', `${join(folder, index)}: expected ${name} in ${shard}, got a shard without it`)
      tensors.set(name, tensor)
    }
  }
  return { folder, files: files.map((file) => join(folder, file)), tensors, metadata }
}

/** A link may lead elsewhere in its folder or, in the Hugging Face cache, from snapshots/… to that repository's blobs. */
async function insideFolder(folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  const target = await realpath(path).catch(() => undefined)
  if (target === undefined) throw new CambiumError('E_SHARD_MISSING', `${path}: no such file`)
  const home = await realpath(folder)
  const blobs = basename(dirname(home)) === 'snapshots' ? join(dirname(dirname(home)), 'blobs') : undefined
  const allowed = [home, ...(blobs === undefined ? [] : [blobs])]
  if (allowed.some((root) => isBelow(root, target))) return path
  throw new CambiumError('E_LINK', `${path}: expected a file inside its folder, got a link to ${target}`)
}

function isBelow(root: string, target: string): boolean {
  const way = relative(root, target)
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !way.startsWith(sep)
}

function pickleError(path: string): CambiumError {
  return new CambiumError(
    'E_PICKLE',
    `${path}: expected safetensors, got pickled weights, which can run any code while they are read. Convert them once, where you trust them: ` +
      `python -c "import torch; from safetensors.torch import save_file; w = torch.load('${basename(path)}', map_location='cpu', weights_only=True); ` +
      `save_file({k: v.contiguous().clone() for k, v in w.items()}, 'model.safetensors', metadata={'format': 'pt'})"`,
  )
}

export interface CheckpointWriteOptions extends WriteOptions {
  /** A file grows to at most this many bytes of tensors (but holds at least one tensor); above it there are shards. Default 5e9. */
  maxShardBytes?: number
  /** File name without extension: `model`, as transformers reads it, or `open_clip_model`. */
  stem?: string
}

/** Writes a checkpoint into an existing folder; returns the names of its files. What an older one of that stem left is removed last. */
export async function writeCheckpoint(
  folder: string,
  tensors: readonly TensorToWrite[],
  options: CheckpointWriteOptions = {},
): Promise<string[]> {
  const stem = options.stem ?? 'model'
  const shards = split(tensors, options.maxShardBytes ?? 5e9)
  const before = (await readdir(folder)).filter((name) => isOfStem(name, stem))
  const written: string[] = []
  const map: Record<string, string> = {}
  for (const [index, shard] of shards.entries()) {
    const name = shards.length === 1 ? `${stem}.safetensors` : shardName(stem, index, shards.length)
    await writeSafetensors(join(folder, name), shard, options)
    for (const tensor of shard) map[tensor.name] = name
    written.push(name)
  }
  if (shards.length > 1) {
    const index = { metadata: { total_size: tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0) }, weight_map: sortKeys(map) }
    written.push(`${stem}.safetensors.index.json`)
    await writeFileAtomic(join(folder, `${stem}.safetensors.index.json`), `${JSON.stringify(index, null, 2)}\n`)
  }
  await Promise.all(before.filter((name) => !written.includes(name)).map((name) => rm(join(folder, name), { force: true })))
  return written
}

/** In the given order, a new shard when the next tensor would not fit. */
function split(tensors: readonly TensorToWrite[], maxBytes: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [[]]
  let filled = 0
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor)
    if (filled > 0 && filled + bytes > maxBytes) {
      shards.push([])
      filled = 0
    }
    shards[shards.length - 1].push(tensor)
    filled += bytes
  }
  return shards
}

/** Whether a name is one of a checkpoint's weight files, of either stem. */
export function isCheckpointFile(name: string): boolean {
  return STEMS.some((stem) => isOfStem(name, stem))
}

function isOfStem(name: string, stem: string): boolean {
  if (name === `${stem}.safetensors` || name === `${stem}.safetensors.index.json`) return true
  return name.startsWith(`${stem}-`) && /^\d{5}-of-\d{5}\.safetensors$/.test(name.slice(stem.length + 1))
}

function sortKeys(map: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)))
}
