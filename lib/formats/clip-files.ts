/**
 * The folder of a CLIP: configuration, weights by canonical name, and the companions (tokenizer, preprocessor) that a saved
 * folder carries on. In Hugging Face's or open_clip's form.
 */
import { copyFile, mkdir, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { CambiumError } from '../errors.js'
import { writeFileAtomic } from './atomic-file.js'
import { type Checkpoint, openCheckpoint, writeCheckpoint } from './checkpoint.js'
import { clipTensors, type Shape } from './clip-tensors.js'
import type { CropRule } from './crop.js'
import type { DiskDtype } from './dtype.js'
import { type ClipConfig, type HiddenAct, readClipConfig } from './hf-config.js'
import { detectLayout, type Layout } from './layouts.js'
import { inferClipConfig, type OpenClipConfig, readOpenClipConfig } from './open-clip-config.js'
import { ImagePreprocessor } from './preprocessor.js'
import { transposeBytes } from './transpose.js'
import { mapWeights, planWrites, sourceDtype, type WeightMap } from './weight-map.js'

export interface ClipFiles {
  readonly folder: string
  readonly config: ClipConfig
  readonly checkpoint: Checkpoint
  readonly weights: WeightMap
  readonly openClip: OpenClipConfig | undefined
}

export interface OpenClipFolderOptions {
  /** Needed only for weights in OpenAI's form without any configuration. */
  hiddenAct?: HiddenAct
  /** Accept tensors that the model has no place for. Default false. */
  allowUnexpected?: boolean
}

/** What goes along unchanged when a model is saved. */
const COMPANIONS = [
  'config.json',
  'open_clip_config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
]

/**
 * Opens a folder and checks that configuration and weights fit; no weight is read yet.
 * Errors: those of openCheckpoint, E_CONFIG, E_UNSUPPORTED, E_LAYOUT, E_CHECKPOINT, E_SHAPE, E_DTYPE.
 */
export async function openClipFolder(folder: string, options: OpenClipFolderOptions = {}): Promise<ClipFiles> {
  const checkpoint = await openCheckpoint(folder)
  const layout = detectLayout(checkpoint.tensors.keys())
  const openClip = await readOpenClipConfig(checkpoint.folder)
  const given = await readClipConfig(checkpoint.folder)
  if (given === undefined && layout.name !== 'open-clip') {
    throw new CambiumError(
      'E_NOT_FOUND',
      `${join(checkpoint.folder, 'config.json')}: expected the configuration of the model, got no such file`,
    )
  }
  const config = given ?? inferClipConfig(openClipShapes(checkpoint), openClip, options.hiddenAct)
  const weights = mapWeights(checkpoint.tensors, clipTensors(config), layout, options)
  return { folder: checkpoint.folder, config, checkpoint, weights, openClip }
}

/** The evaluation transform that came with the weights; CLIP's own when the folder says nothing. */
export async function loadPreprocessor(
  files: Pick<ClipFiles, 'folder' | 'config' | 'openClip'>,
  options: { crop?: CropRule } = {},
): Promise<ImagePreprocessor> {
  const size = files.config.vision.imageSize
  const theirs = files.openClip?.preprocess
  const hasOwn = (await readdir(files.folder)).includes('preprocessor_config.json')
  if (!hasOwn && theirs !== undefined && options.crop === undefined) return ImagePreprocessor.fromOpenClip(theirs, size)
  return ImagePreprocessor.load(files.folder, size, options)
}

function openClipShapes(checkpoint: Checkpoint): Map<string, Shape> {
  const shapes = new Map<string, Shape>()
  for (const { name, shape } of checkpoint.tensors.values()) shapes.set(name.startsWith('text.') ? name.slice(5) : name, shape)
  return shapes
}

export interface SaveOptions {
  /** Layout of the file; default the one it was read from. */
  layout?: Layout
  /** Type on disk; default that of each tensor in the file it was read from. */
  dtype?: DiskDtype
  maxShardBytes?: number
  metadata?: Readonly<Record<string, string>>
  signal?: AbortSignal
}

/**
 * Writes a folder that other tools load as an ordinary CLIP: the weights as `bytesOf` gives them, everything else as it was.
 * @param bytesOf the elements of a canonical tensor in the type asked for, row-major
 * Errors: E_OPTION when `target` is the folder it was read from; E_NO_SPACE, E_IO.
 */
export async function saveClipFolder(
  files: ClipFiles,
  target: string,
  bytesOf: (canonical: string, dtype: DiskDtype) => Promise<Uint8Array>,
  options: SaveOptions = {},
): Promise<void> {
  if (resolve(target) === resolve(files.folder))
    throw new CambiumError('E_OPTION', `${target}: expected another folder than the one the model was read from`)
  await mkdir(target, { recursive: true })
  const layout = options.layout ?? files.weights.layout
  const tensors = planWrites(layout, clipTensors(files.config)).map((write) => {
    const dtype = options.dtype ?? sourceDtype(files.weights, write) ?? 'F32'
    const data = async () => {
      const parts = await Promise.all(write.parts.map((part) => bytesOf(part, dtype)))
      const bytes = parts.length === 1 ? parts[0] : new Uint8Array(Buffer.concat(parts))
      return write.transpose ? transposeBytes(bytes, write.shape[1], write.shape[0]) : bytes
    }
    return { name: write.name, dtype, shape: write.shape, data }
  })
  const stem = layout.name === 'open-clip' ? 'open_clip_model' : 'model'
  await copyCompanions(files, target, layout, options.dtype)
  await writeCheckpoint(target, tensors, { ...options, stem, metadata: { format: 'pt', ...options.metadata } })
}

/** What the type of the weights is called in config.json. */
const CONFIG_DTYPES: Readonly<Partial<Record<DiskDtype, string>>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16', F64: 'float64' }

async function copyCompanions(files: ClipFiles, target: string, layout: Layout, dtype: DiskDtype | undefined): Promise<void> {
  const present = new Set(await readdir(files.folder))
  for (const name of COMPANIONS) if (present.has(name)) await copyFile(join(files.folder, name), join(target, name))
  // transformers 5 loads in the type that the configuration names: it must not contradict a type asked for.
  const named = dtype === undefined ? {} : { dtype: CONFIG_DTYPES[dtype] }
  const raw = { ...files.config.raw, ...named }
  if ('torch_dtype' in raw && dtype !== undefined) raw.torch_dtype = CONFIG_DTYPES[dtype]
  const isOwn = present.has('config.json') && dtype === undefined
  if (!isOwn && layout.name !== 'open-clip') await writeFileAtomic(join(target, 'config.json'), `${JSON.stringify(raw, null, 2)}\n`)
}
