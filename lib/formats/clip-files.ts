/** The folder of a CLIP in Hugging Face's or open_clip's form: configuration and weights by canonical name, checked against each other. */

import { join } from 'node:path'
import { CambiumError } from '../errors.js'
import { readdir } from '../files.js'
import { type Checkpoint, openCheckpoint } from './checkpoint.js'
import { clipTensors, type Shape } from './clip-tensors.js'
import type { CropRule } from './crop.js'
import { type ClipConfig, type HiddenAct, readClipConfig } from './hf-config.js'
import { detectLayout, type LayoutName, layoutNamed } from './layouts.js'
import { inferClipConfig, type OpenClipConfig, readOpenClipConfig } from './open-clip-config.js'
import { ImagePreprocessor } from './preprocessor.js'
import { mapWeights, type WeightMap } from './weight-map.js'

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
  /** Names in the file; told from them when absent. */
  layout?: LayoutName
}

/**
 * Opens a folder and checks that configuration and weights fit; no weight is read yet.
 * Errors: those of openCheckpoint, E_CONFIG, E_UNSUPPORTED, E_LAYOUT, E_CHECKPOINT, E_SHAPE, E_DTYPE.
 */
export async function openClipFolder(folder: string, options: OpenClipFolderOptions = {}): Promise<ClipFiles> {
  const checkpoint = await openCheckpoint(folder)
  const given = await readClipConfig(checkpoint.folder) // first: it knows what another model is called, its tensors do not
  const layout = options.layout === undefined ? detectLayout(checkpoint.tensors.keys()) : layoutNamed(options.layout)
  const openClip = await readOpenClipConfig(checkpoint.folder)
  if (given === undefined && layout.name !== 'open-clip') {
    throw new CambiumError(
      'E_NOT_FOUND',
      `${join(checkpoint.folder, 'config.json')}: expected the configuration of the model, got no such file`,
    )
  }
  const config = given ?? inferClipConfig(openClipShapes(checkpoint), openClip, options.hiddenAct)
  const weights = mapWeights(checkpoint.tensors, clipTensors(config), layout)
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
