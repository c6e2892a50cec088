// CLIP (Radford et al. 2021): two towers of pre-norm blocks, config + weights -> features.

import { type Device, useDevice } from '../device.js'
import { CambiumError } from '../errors.js'
import { loadPreprocessor, openClipFolder } from '../formats/clip-files.js'
import type { ClipConfig, HiddenAct, TowerConfig } from '../formats/hf-config.js'
import type { LayoutName } from '../formats/layouts.js'
import type { ImagePreprocessor } from '../formats/preprocessor.js'
import { ClipTokenizer } from '../formats/tokenizer.js'
import type { Injection, TokenRows, Tower } from '../injection/injection.js'
import { type FloatDType, native } from '../native.js'
import { norm } from '../nn/norm.js'
import { pooledRows, runTower } from '../nn/tower.js'
import type { BlockOptions, BlockWeights, PooledRows } from '../nn/transformer-block.js'
import { classTokens, gatherRows, linear, patchify, tokenEmbed } from '../ops.js'
import { type Parameter, scope, Tensor } from '../tensor.js'
import { resizePositions, withImageSize } from './image-size.js'
import { type PackedTexts, packedValues, shapeOf, textTensors } from './packed-texts.js'
import { type SaveOptions, saveClip } from './save-clip.js'
import { type TextBatch, type TextOptions, textBatch } from './text-batch.js'
import { Weights } from './weights.js'

/** How a checkpoint is loaded and computes. */
export interface ClipOptions {
  /** where it computes: a process has one device, chosen before there are tensors; default: what is in force, the CPU from the start */
  device?: Device
  /** operands of products; default bf16 where the device multiplies it natively, else f32 */
  dtype?: FloatDType
  /** another image side than the checkpoint's: position embeddings are interpolated (bicubic) */
  imageSize?: number
  /** names in the file; detected when absent */
  layout?: LayoutName
  /** needed only for weights in OpenAI's form without any configuration */
  hiddenAct?: HiddenAct
  /** centre crop by Hugging Face's rule (default) or OpenAI's */
  crop?: 'hf' | 'openai'
  /**
   * What the last block of a tower computes: what the pooled token needs (default: keys and values of all tokens, all else
   * for that token alone; the same features), or everything.
   */
  lastBlock?: 'pooled' | 'all'
  /**
   * What a forward pass keeps for backward: all that it needs (default), or only the inputs of blocks, which are then run
   * again (activation checkpointing): the same gradients with less memory and about a third more work.
   */
  checkpoint?: 'none' | 'blocks'
  /**
   * For a model that only infers: each matrix keeps, beside itself, the copy that products read. Inference of a batch takes
   * some 4 % less time and the matrices that are used twice the memory. Default false: batches pack their weights on the way.
   */
  keepPacked?: boolean
}

/** What the default of `dtype` is on this machine, and the device in force. */
export function defaultDtype(): FloatDType {
  const { device, level } = native.backendInfo()
  return device === 'cuda' || ['avx512_bf16', 'amx'].includes(level) ? 'bf16' : 'f32'
}

/**
 * CLIP (Radford et al. 2021): images and texts to features [·, P] in one space. A forward pass is a function of the weights and of what
 * is injected. It holds memory of the device until it is disposed.
 */
export class Clip {
  private readonly blocks: Record<Tower, BlockWeights[]>
  /** tensors that stand in for the model's during a call */
  private standIns: Injection['weights']
  private readonly options: Record<Tower, BlockOptions>

  private constructor(
    readonly folder: string,
    readonly config: ClipConfig,
    readonly weights: Weights,
    readonly dtype: FloatDType,
    readonly preprocessor: ImagePreprocessor,
    private readonly maybeTokenizer: ClipTokenizer | undefined,
    private readonly loadedWith: ClipOptions,
  ) {
    this.blocks = { vision: this.blocksOf('vision', config.vision), text: this.blocksOf('text', config.text) }
    this.options = { vision: this.optionsOf(config.vision, false), text: this.optionsOf(config.text, true) }
  }

  /**
   * Loads a checkpoint folder: Hugging Face's form, or OpenAI/open_clip names.
   * @throws E_NOT_FOUND, E_PICKLE, E_CONFIG, E_CHECKPOINT (missing and unexpected tensors), E_SHAPE, E_SAFETENSORS_…
   */
  static async load(folder: string, options: ClipOptions = {}): Promise<Clip> {
    if (options.device) useDevice(options.device)
    const { dtype = defaultDtype() } = options
    const files = await openClipFolder(folder, { layout: options.layout, hiddenAct: options.hiddenAct })
    const found = files.config
    const { imageSize = found.vision.imageSize } = options
    const config = imageSize === found.vision.imageSize ? found : withImageSize(found, imageSize)
    const weights = await Weights.load(files.checkpoint, files.weights, dtype)
    if (config !== found) await resizePositions(weights, config.vision)
    if (options.keepPacked) weights.keepPacked()
    const own = await loadPreprocessor(files, { crop: options.crop })
    const preprocessor = config === found ? own : own.withSize(config.vision.imageSize)
    const tokenizer = await ClipTokenizer.load(files.folder).catch((error: CambiumError) => {
      if (error.code === 'E_NOT_FOUND') return undefined
      throw error
    })
    return new Clip(folder, config, weights, dtype, preprocessor, tokenizer, { ...options, dtype })
  }

  /** The same files once more, as they are on disk now. */
  async reload(): Promise<Clip> {
    return Clip.load(this.folder, this.loadedWith)
  }

  /** @throws E_NOT_FOUND when the folder has none */
  get tokenizer(): ClipTokenizer {
    if (!this.maybeTokenizer)
      throw new CambiumError('E_NOT_FOUND', `${this.folder}: expected tokenizer.json, or vocab.json and merges.txt, got neither`)
    return this.maybeTokenizer
  }

  /** Token ids of texts, cut to the context length. */
  tokenize(texts: readonly string[]): number[][] {
    return this.tokenizer.encode(texts, { maxLength: this.config.text.maxPositionEmbeddings })
  }

  /**
   * Image features before normalisation. Synchronous: queues the work.
   * @param pixels f32 [B, 3, S, S], preprocessed
   * @param first the number of the first image in its whole batch, when that comes in parts: what random draws are keyed by
   * @returns f32 [B, P]
   * @throws E_SHAPE when S is not the model's image size
   */
  encodeImage(pixels: Tensor, injection?: Injection, first = 0): Tensor {
    const { imageSize, patchSize, layerNormEps: eps } = this.config.vision
    const [batch, , height, width] = pixels.shape
    if (height !== imageSize || width !== imageSize)
      throw new CambiumError('E_SHAPE', `pixels: expected [B, 3, ${imageSize}, ${imageSize}], got [${pixels.shape.join(', ')}]`)
    return this.over(injection, () => {
      const get = (name: string) => this.weight(`vision_model.${name}`)
      const tokens = (imageSize / patchSize) ** 2 + 1
      const rows = equalRows(batch, tokens, first)
      const start = scope(() => {
        const patches = linear(patchify(pixels, patchSize, this.dtype), get('embeddings.patch_embedding.weight'), { dtype: 'f32' })
        const embedded = classTokens(patches, get('embeddings.class_embedding'), get('embeddings.position_embedding.weight'), batch)
        return norm(embedded, this.normOf('vision_model.pre_layrnorm'), eps, 'f32')
      })
      const index = i32(Int32Array.from({ length: batch }, (_, b) => b * tokens))
      const pooled = this.run('vision', start, rows, pooledRows(index, i32(new Int32Array(batch)), rows.keys), injection)
      return linear(norm(pooled, this.normOf('vision_model.post_layernorm'), eps, 'f32'), this.weight('visual_projection.weight'), {
        dtype: 'f32',
      })
    })
  }

  /**
   * Text features before normalisation, one row per entry. Synchronous.
   * @param tokens ids of each text with its start and end token, padded or not
   * @returns f32 [N, P]
   */
  encodeText(tokens: readonly (readonly number[])[], injection?: Injection, options: TextOptions = {}): Tensor {
    const batch = this.packTexts(tokens, options)
    return scope(() => {
      const values = packedValues(batch)
      return this.encodePacked({ values: Tensor.from(values, [values.length], 'i32'), shape: shapeOf(batch) }, injection)
    })
  }

  /** The rows that {@link encodeText} computes for these tokens. */
  packTexts(tokens: readonly (readonly number[])[], options: TextOptions = {}): TextBatch {
    const { maxPositionEmbeddings, eosTokenId } = this.config.text
    return textBatch(tokens, maxPositionEmbeddings, eosTokenId, options)
  }

  /** As {@link encodeText}, of texts that are on the device. */
  encodePacked(texts: PackedTexts, injection?: Injection): Tensor {
    const { texts: batch, maxTokens } = texts.shape
    return this.over(injection, () => {
      const { ids, positions, offsets, keys, pooled: index, ends, index: entries } = textTensors(texts)
      const embeddings = 'text_model.embeddings'
      const x = tokenEmbed(
        ids,
        positions,
        this.weight(`${embeddings}.token_embedding.weight`),
        this.weight(`${embeddings}.position_embedding.weight`),
      )
      const rows = { offsets, positions, keys, batch, maxTokens }
      const pooled = this.run('text', x, rows, pooledRows(index, ends, keys), injection)
      const normed = norm(pooled, this.normOf('text_model.final_layer_norm'), this.config.text.layerNormEps, 'f32')
      const features = linear(normed, this.weight('text_projection.weight'), { dtype: 'f32' })
      return entries ? gatherRows(features, entries) : features
    })
  }

  /** ln of the inverse temperature, [1]. */
  get logitScale(): Parameter {
    return this.weights.get('logit_scale')
  }

  /**
   * Writes an ordinary checkpoint folder with config, tokenizer and preprocessor. Tensors that did not change keep their
   * bytes. See {@link saveClip}.
   */
  async save(folder: string, options: SaveOptions = {}): Promise<void> {
    return saveClip(this, folder, options)
  }

  /** Frees the weights. */
  dispose(): void {
    this.weights.dispose()
  }

  private run(tower: Tower, x: Tensor, rows: TokenRows, pooled: PooledRows, injection?: Injection): Tensor {
    const { lastBlock = 'pooled', checkpoint } = this.loadedWith
    return runTower(x, {
      blocks: this.blocks[tower],
      options: this.options[tower],
      rows,
      pooled,
      lastBlock,
      layer: (index) => injection?.layer(tower, index),
      again: checkpoint === 'blocks' ? (block) => this.over(injection, block) : undefined,
    })
  }

  private optionsOf(tower: TowerConfig, causal: boolean): BlockOptions {
    return { heads: tower.numAttentionHeads, activation: tower.hiddenAct, eps: tower.layerNormEps, causal, dtype: this.dtype }
  }

  private normOf(name: string) {
    return { weight: this.weight(`${name}.weight`), bias: this.weight(`${name}.bias`) }
  }

  /** Looked up at every use: unfreezing puts another parameter in a name's place. */
  private blocksOf(tower: Tower, config: TowerConfig): BlockWeights[] {
    return Array.from({ length: config.numHiddenLayers }, (_, i) => {
      const at = (part: string) => this.lazy(`${tower}_model.encoder.layers.${i}.${part}`)
      return {
        norm1: at('layer_norm1'),
        qkv: at('self_attn.qkv_proj'),
        out: at('self_attn.out_proj'),
        norm2: at('layer_norm2'),
        fc1: at('mlp.fc1'),
        fc2: at('mlp.fc2'),
      }
    })
  }

  private lazy(name: string): { readonly weight: Tensor; readonly bias: Tensor } {
    const weight = (part: string) => this.weight(`${name}.${part}`)
    return {
      get weight() {
        return weight('weight')
      },
      get bias() {
        return weight('bias')
      },
    }
  }

  /** A tensor of the model, or what the injection of this call has in its place. */
  private weight(name: string): Tensor {
    return this.standIns?.get(name) ?? this.weights.get(name)
  }

  /** Runs a forward pass over the weights of an injection. */
  private over<T>(injection: Injection | undefined, forward: () => T): T {
    const before = this.standIns
    this.standIns = injection?.weights
    try {
      return scope(forward)
    } finally {
      this.standIns = before
    }
  }
}

const i32 = (values: Int32Array) => Tensor.from(values, [values.length], 'i32')

function equalRows(batch: number, tokens: number, first: number): TokenRows {
  return {
    offsets: i32(Int32Array.from({ length: batch + 1 }, (_, b) => b * tokens)),
    positions: i32(Int32Array.from({ length: batch * tokens }, (_, row) => row % tokens)),
    keys: i32(Int32Array.from({ length: batch }, (_, b) => first + b)),
    batch,
    maxTokens: tokens,
  }
}
