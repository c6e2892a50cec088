// A model back into an ordinary checkpoint folder, in the layout and the types it was read from.

import { join, resolve } from 'node:path'
import { concatArrays } from '../concat-arrays.js'
import { CambiumError } from '../errors.js'
import { readdir, readFile } from '../files.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { writeFolder } from '../formats/atomic-folder.js'
import { isCheckpointFile, writeCheckpoint } from '../formats/checkpoint.js'
import { clipTensors } from '../formats/clip-tensors.js'
import { type DiskDtype, WRITTEN_DTYPES, type WrittenDtype } from '../formats/dtype.js'
import { type ClipConfig, clipConfigText, configWithDtype } from '../formats/hf-config.js'
import type { ImagePreprocessor } from '../formats/preprocessor.js'
import { storedRequest } from '../formats/safetensors-read.js'
import type { TensorToWrite } from '../formats/safetensors-write.js'
import { planWrites, type WeightWrite } from '../formats/weight-map.js'
import { type DType, native } from '../native.js'
import { cast } from '../ops.js'
import { scope, Tensor } from '../tensor.js'
import { POSITIONS } from './image-size.js'
import type { Weights } from './weights.js'

/** How a model is written. */
export interface SaveOptions {
  /** of the tensors written: as in the file they came from (default), or one for all */
  dtype?: WrittenDtype
  /** more than this is written as several files with an index; default 5 GB */
  maxShardBytes?: number
  /** a folder that is not finished stays as it was */
  signal?: AbortSignal
}

/** What of a model is written. */
export interface ClipToWrite {
  /** that it was read from: the tokenizer's files are copied from it */
  readonly folder: string
  readonly config: ClipConfig
  readonly weights: Weights
  readonly preprocessor: ImagePreprocessor
}

const MEMORY: Partial<Record<DiskDtype, DType>> = { F32: 'f32', BF16: 'bf16', F16: 'f16' }
const COMPANION =
  /^(tokenizer.*|vocab\.json|merges\.txt|special_tokens_map\.json|added_tokens\.json|preprocessor_config\.json|processor_config\.json|open_clip_config\.json)$/

/** Bytes of f32 values in a file's type, rounded once. */
async function bytesIn(values: Float32Array, dtype: DiskDtype): Promise<Uint8Array> {
  const type = MEMORY[dtype]
  if (!type) throw new CambiumError('E_DTYPE', `save: expected to write F32, BF16 or F16, got ${dtype}`)
  if (type === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  const rounded = scope(() => cast(Tensor.from(values, [values.length]), type))
  try {
    return new Uint8Array(await native.read(rounded.id))
  } finally {
    rounded.dispose()
  }
}

/**
 * Writes config, weights, tokenizer and preprocessor into a folder (made when absent). Unchanged tensors keep their
 * bytes unless another type is asked for; changed ones are rounded once. All of it appears together, or the folder stays as it
 * was.
 * @throws E_SAME_FOLDER for the folder that the model was read from, E_NO_SPACE, E_IO
 */
export async function saveClip(clip: ClipToWrite, folder: string, options: SaveOptions = {}): Promise<void> {
  const { dtype = 'file', maxShardBytes, signal } = options
  if (resolve(folder) === resolve(clip.folder))
    throw new CambiumError('E_SAME_FOLDER', `save: expected a folder other than the model's own, got ${folder}`)
  const { weights, config } = clip
  const tensors = planWrites(weights.map.layout, clipTensors(config)).map((write): TensorToWrite => {
    const source = weights.checkpoint.tensors.get(write.name)
    const type: DiskDtype = dtype === 'file' ? (source?.dtype ?? 'F32') : WRITTEN_DTYPES[dtype]
    if (source?.dtype === type && !write.parts.some((part) => weights.differs(part))) {
      const request = { ...storedRequest(source), to: type }
      return { name: write.name, dtype: type, shape: source.shape, data: async () => new Uint8Array(await native.readTensor(request)) }
    }
    const shape = source && source.shape.length !== write.shape.length ? source.shape : write.shape
    return { name: write.name, dtype: type, shape, data: async () => bytesIn(await valuesOf(weights, write), type) }
  })
  const stem = weights.map.layout.name === 'open-clip' ? 'open_clip_model' : 'model'
  const raw = dtype === 'file' ? config.raw : configWithDtype(config.raw, WRITTEN_DTYPES[dtype])
  const write = async (aside: string) => {
    for (const name of await readdir(clip.folder))
      if (COMPANION.test(name)) await writeFileAtomic(join(aside, name), await readFile(join(clip.folder, name)))
    // Another image size than the folder's is another preprocessor too.
    if (weights.changed.has(POSITIONS))
      await writeFileAtomic(join(aside, 'preprocessor_config.json'), `${JSON.stringify(clip.preprocessor.toJson(), null, 2)}\n`)
    await writeCheckpoint(aside, tensors, { maxShardBytes, signal, stem })
    await writeFileAtomic(join(aside, 'config.json'), clipConfigText(raw))
  }
  await writeFolder(folder, write, isCheckpointFile)
}

/** The f32 values of a tensor of the file: its parts under each other, transposed if the layout says so. */
async function valuesOf(weights: Weights, { parts, shape, transpose }: WeightWrite): Promise<Float32Array> {
  const all: Float32Array[] = []
  for (const part of parts) all.push(await weights.exact(part))
  const joined = all.length === 1 ? all[0] : concatArrays(Float32Array, all)
  if (!transpose) return joined
  const [rows, columns] = shape // of the file: the canonical matrix is [columns, rows]
  const out = new Float32Array(joined.length)
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[i * columns + j] = joined[j * rows + i]
  return out
}
