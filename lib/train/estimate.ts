/**
 * What a training run will take, told before it starts: bytes and floating-point operations from the sizes of the model and
 * the batch. The model of a step is the one that this library runs (what norms and products need, in the operand type, nothing
 * kept for frozen weights, gradients only once activations go); with ViT-B/16 it is within 10 % of the process's measured peak
 * (test/train/estimate.test.ts). Counts of operations: one multiply-add is two; a layer is 24 D² + 4 N D per token forward (a feed-forward of 4 D).
 */
import os from 'node:os'
import { CambiumError } from '../errors.js'
import type { ClipConfig, TowerConfig } from '../formats/hf-config.js'
import { visionTokens } from '../formats/hf-config.js'
import type { Tower } from '../injection/injection.js'
import type { FloatDType } from '../native.js'

export interface TrainingShape {
  config: Pick<ClipConfig, 'vision' | 'text' | 'projectionDim'>
  /** 'full' trains every weight of the backbone. */
  method: 'r-adapter' | 'lora' | 'full'
  /** Rank of R-Adapter's factors; absent: full rank, D × D. */
  rank?: number
  /** Of LoRA. */
  lora?: LoraLoad
  /** Images of one optimizer step, B. */
  batch: number
  /** Micro-batches that B is cut into. Default 1. */
  accumulate?: number
  /** Type of the operands of products. */
  dtype: FloatDType
  /** Tokens of the longest prompt. Default: the model's context. */
  textTokens?: number
  /** Different prompts of a micro-batch at most (equal ones are encoded once). Default: one an image. */
  texts?: number
  /** Every micro-batch encodes this many prompts: one a class. */
  classTexts?: number
  /** Probability of dropping an adapter in a step. Default 0. */
  drop?: number
  /** An average of the trained parameters is kept. Default true. */
  ema?: boolean
  /** Only the inputs of blocks are kept for backward, which runs them again. */
  activationCheckpointing?: boolean
  /** Batches of pixels decoded ahead. Default 2. */
  prefetch?: number
  /** Whether backward reads what attention gave: on a GPU, and where what trains is fed by it, as every weight is. Default true. */
  attended?: boolean
  /** What a method adds to training. */
  beside?: BesideLoad
}

/** What a continual method takes beside the batch and the parameters that train. */
export interface BesideLoad {
  /** Bytes that are there all the time: copies of weights, statistics, features of a teacher, decoded images. */
  readonly held?: number
  /** Images and texts that go forward and backward with each batch: references, texts of earlier classes. */
  readonly images?: number
  readonly texts?: number
  /** Images that a teacher is asked about in each step, forward alone. */
  readonly taught?: number
}

/** What the low-rank deltas of each tower add. */
export type LoraLoad = Readonly<
  Record<Tower, { readonly parameters: number /** elements kept for backward, per token, in all layers */; readonly kept: number }>
>

export interface TrainingEstimate {
  readonly parameters: number
  readonly trainable: number
  /** Bytes by purpose; `total` is their sum. */
  readonly memory: {
    readonly weights: number
    readonly optimizer: number
    readonly activations: number
    readonly data: number
    /** Of a method: copies of weights, statistics, what a teacher said. */
    readonly held: number
    readonly base: number
    readonly total: number
  }
  /** Floating-point operations of one optimizer step. */
  readonly flopsPerStep: number
}

/** Node, the core, the decoder and their code, scratch of products. */
const BASE_BYTES = 150e6

/**
 * Bytes and operations of a run, from sizes alone: nothing is allocated.
 * @throws E_OPTION when the batch cannot be cut into `accumulate` parts
 */
export function estimateTraining(shape: TrainingShape): TrainingEstimate {
  const { config, batch, accumulate = 1 } = shape
  const micro = batch / accumulate
  if (!Number.isInteger(micro) || micro < 1) {
    throw new CambiumError('E_OPTION', `accumulate: expected a divisor of the batch ${batch}, got ${accumulate}`)
  }
  const { held = 0, images = 0, texts = 0, taught = 0 } = shape.beside ?? {}
  const towers = towersOf(shape, micro, shape.classTexts ?? Math.min(shape.texts ?? micro, micro))
  const more = towersOf(shape, images, texts)
  const embeddings = outside(config)
  const inLayers = sum(towers.map(({ tower }) => tower.numHiddenLayers * layerParameters(tower)))
  const parameters = inLayers + embeddings
  const trainable = shape.method === 'full' ? parameters : sum(towers.map((t) => adapterParameters(shape, t)))
  const parts = {
    weights: weightBytes(shape, inLayers, embeddings, config.text.vocabSize * config.text.hiddenSize),
    optimizer: optimizerBytes(shape, trainable),
    activations:
      peakOfStep(shape, towers, more, trainable) +
      4 * batch * Math.min(batch, Math.max(64, 2 ** 20 / batch)) + // a strip of the contrastive loss
      8 * 4 * batch * config.projectionDim,
    data:
      ((shape.prefetch ?? 2) + 1) * (micro + images) * 3 * config.vision.imageSize ** 2 * 4 +
      (accumulate > 1 ? batch * 3 * config.vision.imageSize ** 2 * 4 : 0),
    held,
    base: BASE_BYTES,
  }
  const flopsPerStep =
    accumulate * sum(towers.map((t) => towerFlops(shape, t, accumulate > 1))) +
    sum(more.map((t) => towerFlops(shape, t, false))) +
    sum(towersOf(shape, taught, 0).map((t) => t.samples * forwardFlops(shape, t))) +
    3 * 2 * batch ** 2 * config.projectionDim * 2
  return { parameters, trainable, memory: { ...parts, total: sum(Object.values(parts)) }, flopsPerStep }
}

interface TowerLoad {
  readonly name: Tower
  readonly tower: TowerConfig
  /** Tokens of one sample, N, and samples of a micro-batch. */
  readonly tokens: number
  readonly samples: number
  /** Weights of the first projection that take part in products (patches; a table costs none). */
  readonly embedProduct: number
}

function towersOf({ config, textTokens }: TrainingShape, images: number, texts: number): TowerLoad[] {
  const { vision, text } = config
  return [
    {
      name: 'vision',
      tower: vision,
      tokens: visionTokens(vision),
      samples: images,
      embedProduct: 3 * vision.patchSize ** 2 * vision.hiddenSize,
    },
    {
      name: 'text',
      tower: text,
      tokens: Math.min(textTokens ?? text.maxPositionEmbeddings, text.maxPositionEmbeddings),
      samples: texts,
      embedProduct: 0,
    },
  ]
}

function linearParameters({ hiddenSize: width, intermediateSize: inner }: TowerConfig): number {
  return 4 * width ** 2 + 2 * width * inner
}

/** Weights and biases of a block: four projections, two feed-forward layers, two norms. */
function layerParameters(tower: TowerConfig): number {
  return linearParameters(tower) + 9 * tower.hiddenSize + tower.intermediateSize
}

function adapterParameters({ method, rank, lora }: TrainingShape, { name, tower }: TowerLoad): number {
  if (method === 'lora') return lora?.[name].parameters ?? 0
  const { hiddenSize: width, numHiddenLayers: layers } = tower
  return layers * 2 * (rank === undefined ? width ** 2 : 2 * width * rank)
}

/** What is not in a block: embeddings, positions, outer norms, projections, logit scale. */
function outside({ vision, text, projectionDim }: TrainingShape['config']): number {
  const seen = (3 * vision.patchSize ** 2 + visionTokens(vision) + 1 + 4 + projectionDim) * vision.hiddenSize
  return seen + (text.vocabSize + text.maxPositionEmbeddings + 2 + projectionDim) * text.hiddenSize + 1
}

const bytesOf = (dtype: FloatDType): number => (dtype === 'bf16' ? 2 : 4)

/** One copy: products pack their weights on the way. Beside bf16 the table of tokens is f16; other embeddings and projections stay f32. */
function weightBytes(shape: TrainingShape, inLayers: number, embeddings: number, table: number): number {
  if (shape.method === 'full') return 4 * (inLayers + embeddings)
  const size = bytesOf(shape.dtype)
  return inLayers * size + 4 * embeddings - (4 - size) * table
}

/** Two moments and the average in f32; an adapter's own f32 values too (weights are counted apart). */
function optimizerBytes(shape: TrainingShape, trainable: number): number {
  const states = shape.ema === false ? 2 : 3
  return trainable * (4 * states + (shape.method === 'full' ? 0 : 4))
}

/**
 * The most that is alive at once of what forward keeps and of gradients (f32), which come while that goes: backward takes the text
 * tower first, and its gradients stand beside what the image tower kept. A micro-batch before has left all of them.
 */
function peakOfStep(shape: TrainingShape, towers: readonly TowerLoad[], more: readonly TowerLoad[], trainable: number): number {
  const passes = towers.map((load) => {
    const others = more.filter(({ name }) => name === load.name)
    const loads = [load, ...others]
    const kept = sum(loads.map((one) => keptBytes(shape, one)))
    const working = Math.max(...loads.map((one) => workingBytes(shape, one)))
    const gradients =
      4 * (shape.method === 'full' ? load.tower.numHiddenLayers * layerParameters(load.tower) : adapterParameters(shape, load))
    return { kept, working, gradients, layers: load.tower.numHiddenLayers }
  })
  const kept = sum(passes.map((one) => one.kept))
  if ((shape.accumulate ?? 1) > 1) return kept + Math.max(...passes.map(({ working }) => working)) + 4 * trainable
  const [vision, text] = passes
  return Math.max(vision.kept + peakOfTower(text), text.gradients + peakOfTower(vision), 4 * trainable)
}

/** Forward at its end, or backward: the last block keeps little, so that two blocks have gradients before much is freed; or its end. */
function peakOfTower({ kept, working, gradients, layers }: Record<'kept' | 'working' | 'gradients' | 'layers', number>): number {
  return Math.max(kept + working, kept + (Math.min(2, layers) * gradients) / layers, gradients + kept / layers + working)
}

/** While one block is worked on: the residual stream, and what the feed-forward is between its products. */
function workingBytes({ dtype }: TrainingShape, { tower, tokens, samples }: TowerLoad): number {
  return samples * tokens * (4 * tower.hiddenSize + bytesOf(dtype) * tower.intermediateSize)
}

/** What all blocks keep for backward. */
function keptBytes(shape: TrainingShape, load: TowerLoad): number {
  const { name, tower, tokens, samples } = load
  const { hiddenSize: width, intermediateSize: inner, numAttentionHeads: heads, numHiddenLayers: layers } = tower
  const size = bytesOf(shape.dtype)
  const attended = shape.method === 'full' || shape.attended !== false ? width : 0
  const common = size * (2 * width + 3 * width + attended + inner) + 4 * heads + 2 * 4
  const adapted = size * (2 * width + (shape.rank === undefined ? 0 : 2 * shape.rank))
  const trained = size * (2 * width + inner)
  const kept =
    common + (shape.method === 'full' ? trained : shape.method === 'lora' ? (size * (shape.lora?.[name].kept ?? 0)) / layers : adapted)
  // The last block keeps the inputs of keys and values; of all else only the pooled tokens' share.
  const last = size * 3 * width
  if (shape.activationCheckpointing) return samples * tokens * (layers * 4 * width + kept)
  return samples * tokens * ((layers - 1) * kept + last)
}

/**
 * Forward and backward of one micro-batch. Backward of a frozen product is one product (dX), of a trained one two; attention's
 * is 2.5 times its forward (scores are computed again). Contrastive accumulation runs each forward once more.
 */
function towerFlops(shape: TrainingShape, load: TowerLoad, twice: boolean): number {
  const { tokens, samples, embedProduct } = load
  const { linear, attention, adapters } = operations(shape, load)
  const forward = linear + attention + adapters
  const backward = linear * (shape.method === 'full' ? 2 : 1) + 2.5 * attention + 2 * adapters
  const embed = 2 * embedProduct * (shape.method === 'full' ? 2 : 1)
  return samples * (tokens * (forward * (twice ? 2 : 1) + backward) + (tokens - 1) * embed)
}

/** Forward of one sample. */
function forwardFlops(shape: TrainingShape, load: TowerLoad): number {
  const { linear, attention, adapters } = operations(shape, load)
  return load.tokens * (linear + attention + adapters) + (load.tokens - 1) * 2 * load.embedProduct
}

/** Forward, of one token. */
function operations(shape: TrainingShape, load: TowerLoad) {
  const { tower, tokens } = load
  const { hiddenSize: width, numHiddenLayers: layers } = tower
  const adapters = shape.method === 'full' ? 0 : (1 - (shape.drop ?? 0)) * 2 * adapterParameters(shape, load)
  return { linear: layers * 2 * linearParameters(tower), attention: layers * 4 * tokens * width, adapters }
}

/** Bytes this process may still take: free memory, and what is left of a container's limit. */
export function availableMemory(): number {
  const limit = process.constrainedMemory?.() ?? 0
  const own = limit > 0 && limit < os.totalmem() ? limit - process.memoryUsage.rss() : Number.POSITIVE_INFINITY
  return Math.max(0, Math.min(os.freemem(), own))
}

/**
 * Throws E_MEMORY when a run cannot fit, with the least `accumulate` that would.
 * @param limit bytes: the user's budget, or {@link availableMemory}
 */
export function requireMemory(shape: TrainingShape, limit: number, name = 'available memory'): TrainingEstimate {
  const estimate = estimateTraining(shape)
  const { total, ...parts } = estimate.memory
  if (total <= limit) return estimate
  const fits = divisorsAbove(shape.batch, shape.accumulate ?? 1).find(
    (k) => estimateTraining({ ...shape, accumulate: k }).memory.total <= limit,
  )
  const list = Object.entries(parts).flatMap(([part, bytes]) => (bytes === 0 ? [] : `${part} ${formatBytes(bytes)}`))
  const advice = fits === undefined ? 'a smaller model or image size is needed' : `accumulate ${fits} would fit and give the same result`
  throw new CambiumError(
    'E_MEMORY',
    `memory: expected at most ${formatBytes(limit)} (${name}), got about ${formatBytes(total)} (${list.join(', ')}); ${advice}`,
    {
      details: { limit, estimate, accumulate: fits },
    },
  )
}

function divisorsAbove(batch: number, least: number): number[] {
  return Array.from({ length: batch }, (_, i) => i + 1).filter((k) => k > least && batch % k === 0)
}

/** 1.5 GB, 12 MB: decimal units, as disks and registries use. */
export function formatBytes(bytes: number): string {
  const power = bytes < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(bytes) / 3))
  const value = bytes / 1000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toPrecision(2)} ${['B', 'kB', 'MB', 'GB', 'TB'][power]}`
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
