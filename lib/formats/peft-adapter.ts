/**
 * A PEFT adapter (huggingface/peft: adapter_config.json + adapter_model.safetensors) as data: which modules it changes, by
 * which factors, and which tensors it replaces. Tensors stay on disk until somebody reads them.
 *
 * The change of a module with weight W, with R = rank and s = scaling:
 * - linear: ΔW = s · B A, A [R, in], B [out, R]; with `fanInFanOut` W is stored [in, out] and ΔW is transposed.
 * - conv: the same on flattened kernels: W [out, in, k…], A [R, in, k…], B [out, R, 1…].
 * - embedding: W [V, D], A [R, V], B [D, R]: ΔW = s · (B A)ᵀ.
 * - `bias` (PEFT's lora_bias): b += s · bias, [out].
 * - `magnitude` (DoRA): W' = m ∘ (W + ΔW) / ‖W + ΔW‖, norms over all but the output dimension (linear, conv: m [out]; an
 *   embedding's output dimension is D, its columns: m [D]); what multiplies W multiplies no bias.
 */
import type { JsonObject } from './json-fields.js'
import type { Placement } from './layouts.js'
import type { StoredTensor } from './safetensors-read.js'

/** The fields of adapter_config.json that say what the tensors mean; PEFT's names in camel case, its defaults where absent. */
export interface PeftConfig {
  readonly r: number
  readonly loraAlpha: number
  readonly useRslora: boolean
  readonly useDora: boolean
  readonly loraBias: boolean
  readonly loraDropout: number
  readonly bias: 'none' | 'all' | 'lora_only'
  readonly fanInFanOut: boolean
  /** names and suffixes, one regular expression, or 'all-linear'; undefined when the file does not say */
  readonly targetModules: readonly string[] | string | undefined
  readonly excludeModules: readonly string[] | string | undefined
  /** regular expressions in the order of the file: the first that matches the end of a module's name counts */
  readonly rankPattern: ReadonlyMap<string, number>
  readonly alphaPattern: ReadonlyMap<string, number>
  readonly layersToTransform: readonly number[] | undefined
  readonly layersPattern: readonly string[]
  readonly modulesToSave: readonly string[]
  readonly baseModel: string | undefined
  /** the object of the file, whole: what is not understood here is written back from it */
  readonly raw: JsonObject
}

export type PeftKind = 'linear' | 'conv' | 'embedding'

/** One changed module. */
export interface PeftTarget {
  /** as the adapter names it, without `base_model.model.` */
  readonly module: string
  readonly kind: PeftKind
  readonly a: StoredTensor
  readonly b: StoredTensor
  readonly rank: number
  /** alpha / r, or alpha / √r with rsLoRA, by the patterns */
  readonly scaling: number
  /** [out], of DoRA; an embedding's [D] */
  readonly magnitude?: StoredTensor
  /** [out], PEFT's lora_bias */
  readonly bias?: StoredTensor
  readonly fanInFanOut: boolean
}

/** An adapter in PEFT's format, opened: which modules it changes and which tensors it replaces, on disk until they are read. */
export interface PeftAdapter {
  readonly folder: string
  readonly config: PeftConfig
  readonly targets: readonly PeftTarget[]
  /** tensors that stand in a base tensor's place (modules_to_save; biases trained with bias 'all' or 'lora_only'), by its name */
  readonly saved: ReadonlyMap<string, StoredTensor>
  /** fields of the configuration that have no meaning here; kept in `config.raw` */
  readonly unknown: readonly string[]
  /** fingerprint of the base it was trained on, when we wrote it */
  readonly base: string | undefined
  /** what a person should know, in sentences: unknown fields, modules that PEFT would pass over */
  readonly warnings: readonly string[]
}

/** A target in a base: the tensor that it changes, and which of its rows (the fused in_proj of open_clip). */
export interface PlacedTarget extends PeftTarget {
  /** never transposed: `fanInFanOut` says how this tensor is stored */
  readonly weight: Placement
  /** undefined when the base module has no bias */
  readonly baseBias: Placement | undefined
}

/** A replaced tensor in a base. */
export interface PlacedTensor {
  readonly tensor: StoredTensor
  readonly at: Placement
  /** it has another shape than the base's: a head for other classes */
  readonly reshaped: boolean
}

/** An adapter in a base. */
export interface PlacedAdapter {
  readonly adapter: PeftAdapter
  readonly targets: readonly PlacedTarget[]
  readonly saved: readonly PlacedTensor[]
  /** saved tensors that the base does not have (a new head), by the adapter's name for them */
  readonly extra: ReadonlyMap<string, StoredTensor>
}
