// A LoRA on disk, as PEFT has it: written so that peft loads it on the original base, read so that training can go on.
import { basename } from 'node:path'
import { concatArrays } from '../concat-arrays.js'
import { CambiumError } from '../errors.js'
import { clipTensors } from '../formats/clip-tensors.js'
import type { JsonObject } from '../formats/json-fields.js'
import type { PlacedAdapter, PlacedTarget } from '../formats/peft-adapter.js'
import { patternOf } from '../formats/peft-match.js'
import { placeAdapter } from '../formats/peft-place.js'
import { openPeftAdapter } from '../formats/peft-read.js'
import { type PeftModuleToWrite, type PeftTensorToWrite, writePeftAdapter } from '../formats/peft-write.js'
import { type StoredTensor, storedRequest } from '../formats/safetensors-read.js'
import { Lora } from '../methods/lora.js'
import { currentFactors, type LoraModule } from '../methods/lora-module.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import type { Tensor } from '../tensor.js'
import { requireBase } from './adapter-file.js'
import { fingerprint } from './fingerprint.js'

/** What is written of a LoRA beside its factors. */
export interface SaveLoraOptions {
  /** running averages of the factors, by parameter name, in their place */
  averages?: ReadonlyMap<string, Tensor>
  /**
   * names of transformers 4 (default), or of transformers 5, where an adapter of one tower alone is for CLIPTextModel or
   * CLIPVisionModel, whose names have no prefix; CLIPModel's are the same in both
   */
  layout?: 'hf4' | 'hf5'
  /** base_model_name_or_path; default: the folder that the model was read from */
  baseModel?: string
  /** configuration of the adapter that training went on from: its fields are kept */
  keep?: JsonObject
  /** stops it, with its reason; files stay as they were */
  signal?: AbortSignal
}

/**
 * Writes adapter_config.json, adapter_model.safetensors, a model card and the base's fingerprint. PiSSA and OLoRA are
 * written as the change of the original base, of twice the rank: [A; A₀], [B, −B₀] (PEFT's converted form).
 * @throws E_IO, E_NO_SPACE; the folder then is as it was
 */
export async function saveLora(lora: Lora, folder: string, options: SaveLoraOptions = {}): Promise<void> {
  const { averages, layout = 'hf4', keep, signal } = options
  const { clip } = lora
  const towers = new Set(lora.modules.map(({ tower }) => tower))
  const prefix = layout === 'hf5' && towers.size === 1 ? `${[...towers][0]}_model.` : ''
  const own = (module: string) => (module.startsWith(prefix) ? module.slice(prefix.length) : module)
  const others = [...clipTensors(clip.config).keys()].filter((name) => name.startsWith(prefix) && name.endsWith('.weight'))
  const className = prefix === '' ? 'CLIPModel' : prefix === 'text_model.' ? 'CLIPTextModel' : 'CLIPVisionModel'
  await writePeftAdapter(folder, {
    modules: lora.modules.map((module) => ({ ...moduleToWrite(module, averages, lora.options.rslora), module: own(module.module) })),
    others: others.map((name) => own(name.slice(0, -'.weight'.length))),
    useRslora: lora.options.rslora,
    dropout: lora.options.dropout,
    baseModel: options.baseModel ?? clip.folder,
    baseClass: { name: className, library: 'transformers.models.clip.modeling_clip' },
    base: await fingerprint(clip.weights.checkpoint),
    keep,
    signal,
  })
}

function moduleToWrite(module: LoraModule, averages: ReadonlyMap<string, Tensor> | undefined, rslora = false): PeftModuleToWrite {
  const { start, rank, alpha } = module
  const { a, b, bias, magnitude } = currentFactors(module, averages)
  const rest = { module: module.module, ...(bias && { bias: stored(bias) }), ...(magnitude && { magnitude: stored(magnitude) }) }
  if (!start) return { ...rest, rank, alpha, a: stored(a), b: stored(b) }
  const [inner, out] = [a.shape[1], b.shape[0]]
  const doubled = {
    a: floats([2 * rank, inner], async () => concatArrays(Float32Array, [await a.floats(), await start.a.floats()])),
    b: floats([out, 2 * rank], async () => besides(await b.floats(), await start.b.floats(), rank)),
  }
  // The scaling stays: α / R or α / √R of twice the rank.
  return { ...rest, ...doubled, rank: 2 * rank, alpha: alpha * (rslora ? Math.SQRT2 : 2) }
}

/** [B, −B₀], row by row. */
function besides(b: Float32Array, start: Float32Array, rank: number): Float32Array {
  const both = new Float32Array(2 * b.length)
  for (let row = 0; row < b.length / rank; row++) {
    both.set(b.subarray(row * rank, (row + 1) * rank), 2 * row * rank)
    both.set(
      start.subarray(row * rank, (row + 1) * rank).map((value) => -value),
      (2 * row + 1) * rank,
    )
  }
  return both
}

const stored = (tensor: Tensor): PeftTensorToWrite => floats(tensor.shape, () => tensor.floats())

function floats(shape: readonly number[], values: () => Promise<Float32Array>): PeftTensorToWrite {
  return {
    dtype: 'F32',
    shape,
    data: async () => {
      const { buffer, byteOffset, byteLength } = await values()
      return new Uint8Array(buffer, byteOffset, byteLength)
    },
  }
}

/** A LoRA that was read from PEFT's files, and what its configuration said. */
export interface LoadedLora {
  readonly lora: Lora
  /** fields without a meaning here and the like, as sentences */
  readonly warnings: readonly string[]
  /** the configuration that was read, for {@link SaveLoraOptions.keep} */
  readonly config: JsonObject
}

/**
 * Reads a PEFT adapter into a method that trains. For what only changes the weights (convolutions, embeddings, whole tensors)
 * use an AdapterSet, or merge it.
 * @throws those of openPeftAdapter; E_BASE for another base than the one that Cambium wrote down; E_ADAPTER for targets that
 *   are no linears of the blocks
 */
export async function loadLora(clip: Clip, folder: string, options: { name?: string } = {}): Promise<LoadedLora> {
  const adapter = await openPeftAdapter(folder, options)
  if (adapter.base !== undefined) await requireBase(adapter.base, clip.weights.checkpoint, adapter.folder)
  const placed = placeAdapter(adapter, clipTensors(clip.config))
  requireLinears(placed)
  const { config } = adapter
  const rslora = config.useRslora
  const named = placed.targets.map((target) => [target.weight.source.slice(0, -'.weight'.length), target] as const)
  const alphaOf = ({ scaling, rank }: PlacedTarget) => Number((scaling * (rslora ? Math.sqrt(rank) : rank)).toPrecision(12))
  const lora = await Lora.create(clip, {
    r: config.r,
    alpha: config.loraAlpha,
    rslora,
    dora: config.useDora,
    bias: config.loraBias,
    dropout: config.loraDropout,
    targets: named.map(([module]) => module),
    rankPattern: Object.fromEntries(
      named.filter(([, { rank }]) => rank !== config.r).map(([module, { rank }]) => [patternOf(module), rank]),
    ),
    alphaPattern: Object.fromEntries(
      named.filter(([, target]) => alphaOf(target) !== config.loraAlpha).map(([module, target]) => [patternOf(module), alphaOf(target)]),
    ),
  })
  try {
    const byModule = new Map(named)
    for (const module of lora.modules) await fill(module, byModule.get(module.module) as PlacedTarget)
  } catch (error) {
    lora.dispose()
    throw error
  }
  return { lora, warnings: adapter.warnings, config: config.raw }
}

/** What an adapter changes beside the linears of the blocks: a method that trains has no place for it. */
export function changesElsewhere({ targets, saved, extra }: PlacedAdapter): string[] {
  return [
    ...targets.filter(({ kind, weight }) => kind !== 'linear' || !/\.layers\.\d+\./.test(weight.source)).map(({ module }) => module),
    ...saved.map(({ at }) => at.source),
    ...extra.keys(),
  ]
}

function requireLinears(placed: PlacedAdapter): void {
  const other = changesElsewhere(placed)
  if (other.length === 0) return
  const shown = other.slice(0, 3).join(', ')
  throw new CambiumError(
    'E_ADAPTER',
    `${basename(placed.adapter.folder)}: expected deltas of linears of the blocks alone, got ${other.length} others: ${shown}${other.length > 3 ? '…' : ''}. An AdapterSet applies them, and merging folds them`,
  )
}

async function fill({ factors }: LoraModule, { a, b, bias, magnitude }: PlacedTarget): Promise<void> {
  const read = async (into: Tensor | undefined, from: StoredTensor | undefined) => {
    if (into === undefined || from === undefined) return
    await native.readTensorInto(into.id, storedRequest(from))
  }
  await read(factors.a, a)
  await read(factors.b, b)
  await read(factors.bias, bias)
  await read(factors.magnitude, magnitude)
}
