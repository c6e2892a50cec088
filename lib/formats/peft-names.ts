/**
 * Names of modules across the files that hold the same model: transformers 4 and 5 (the ViT family was renamed, the single
 * towers of CLIP lost their prefix), open_clip and timm. An adapter and a checkpoint meet in a common form, which exists only
 * here; what neither knows keeps its own name, so any architecture works whose two files agree.
 */
import type { Placement } from './layouts.js'

/** Applied in this order to the name of a module. */
const RULES: readonly (readonly [RegExp, string])[] = [
  // open_clip and OpenAI's CLIP
  [/^(?:text\.)?transformer\.resblocks\./, 'text_model.layers.'],
  [/^visual\.transformer\.resblocks\./, 'vision_model.layers.'],
  [/^(?:text\.)?token_embedding$/, 'text_model.embeddings.token_embedding'],
  [/^visual\.conv1$/, 'vision_model.embeddings.patch_embedding'],
  [/^visual\.ln_pre$/, 'vision_model.pre_layrnorm'],
  [/^visual\.ln_post$/, 'vision_model.post_layernorm'],
  [/^(?:text\.)?ln_final$/, 'text_model.final_layer_norm'],
  [/(\.layers\.\d+)\.ln_1$/, '$1.layer_norm1'],
  [/(\.layers\.\d+)\.ln_2$/, '$1.layer_norm2'],
  [/(\.layers\.\d+)\.attn\.out_proj$/, '$1.self_attn.out_proj'],
  [/(\.layers\.\d+)\.attn$/, '$1.self_attn.in_proj'],
  [/(\.layers\.\d+)\.mlp\.c_fc$/, '$1.mlp.fc1'],
  [/(\.layers\.\d+)\.mlp\.c_proj$/, '$1.mlp.fc2'],
  // timm
  [/^blocks\./, 'layers.'],
  [/(^|\.)layers\.(\d+)\.attn\.qkv$/, '$1layers.$2.attention.in_proj'],
  [/(^|\.)layers\.(\d+)\.attn\.proj$/, '$1layers.$2.attention.o_proj'],
  [/^patch_embed\.proj$/, 'embeddings.patch_embeddings.projection'],
  // the ViT family of transformers 4 and 5; DINOv2 kept `encoder.layer` and `norm1`
  [/(^|\.)encoder\.layers?\.(\d+)\./, '$1layers.$2.'],
  [/(^|\.)layers\.(\d+)\.(?:attention\.)?attention\.query$/, '$1layers.$2.attention.q_proj'],
  [/(^|\.)layers\.(\d+)\.(?:attention\.)?attention\.key$/, '$1layers.$2.attention.k_proj'],
  [/(^|\.)layers\.(\d+)\.(?:attention\.)?attention\.value$/, '$1layers.$2.attention.v_proj'],
  [/(^|\.)layers\.(\d+)\.attention\.output\.dense$/, '$1layers.$2.attention.o_proj'],
  [/(^|\.)layers\.(\d+)\.intermediate\.dense$/, '$1layers.$2.mlp.fc1'],
  [/(^|\.)layers\.(\d+)\.output\.dense$/, '$1layers.$2.mlp.fc2'],
  [/(^|\.)layers\.(\d+)\.norm1$/, '$1layers.$2.layernorm_before'],
  [/(^|\.)layers\.(\d+)\.norm2$/, '$1layers.$2.layernorm_after'],
]

/** The common form of a module's name. */
export function commonName(module: string): string {
  return RULES.reduce((name, [from, to]) => name.replace(from, to), module)
}

/** The three modules whose rows follow one another in a fused one (common form), or undefined. */
export function partsOfFused(common: string): readonly string[] | undefined {
  if (!common.endsWith('.in_proj')) return undefined
  return ['q_proj', 'k_proj', 'v_proj'].map((part) => common.slice(0, -'in_proj'.length) + part)
}

/** Where the weight and the bias of a module lie in a checkpoint. */
export interface ModulePlace {
  readonly weight: Placement
  readonly bias: Placement | undefined
}

/** Raw matrices of open_clip that are the transposes of linear weights. */
const TRANSPOSED: Readonly<Record<string, string>> = {
  'visual.proj': 'visual_projection',
  text_projection: 'text_projection',
  'text.text_projection': 'text_projection',
}

/** The modules of a checkpoint by their own names and by their common ones. A common name that two modules share means neither. */
export class ModuleIndex {
  readonly literal = new Map<string, ModulePlace>()
  readonly common = new Map<string, ModulePlace>()

  /** @param names the tensors of the checkpoint */
  constructor(private readonly names: { has(name: string): boolean; keys(): IterableIterator<string> }) {
    const shared = new Set<string>()
    const add = (common: string, place: ModulePlace) => {
      if (this.common.has(common)) shared.add(common)
      this.common.set(common, place)
    }
    for (const name of names.keys()) {
      const [module, fused] = moduleOf(name)
      if (module === undefined) continue
      const place = this.placeOf(name, module, fused)
      this.literal.set(module, place)
      const common = commonName(module)
      add(TRANSPOSED[name] ?? common, place)
      for (const [index, part] of (partsOfFused(common) ?? []).entries()) add(part, third(place, index))
    }
    for (const common of shared) this.common.delete(common)
  }

  private placeOf(name: string, module: string, fused: boolean): ModulePlace {
    const bias = fused ? `${module}.in_proj_bias` : `${module}.bias`
    const weight: Placement = name in TRANSPOSED ? { source: name, transpose: true } : { source: name }
    return { weight, bias: this.names.has(bias) ? { source: bias } : undefined }
  }
}

/** The module that a tensor is the weight of, and whether it is torch's fused in_proj. */
function moduleOf(name: string): [string | undefined, boolean] {
  if (name.endsWith('.weight')) return [name.slice(0, -'.weight'.length), false]
  if (name.endsWith('.in_proj_weight')) return [name.slice(0, -'.in_proj_weight'.length), true]
  return name in TRANSPOSED ? [name, false] : [undefined, false]
}

function third(place: ModulePlace, index: number): ModulePlace {
  const rows = { index, of: 3 }
  return { weight: { ...place.weight, rows }, bias: place.bias === undefined ? undefined : { ...place.bias, rows } }
}
