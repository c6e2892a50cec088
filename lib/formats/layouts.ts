/**
 * Layouts: how a family of files names and packs the tensors of a CLIP. A layout says for a canonical name where its elements
 * lie; the same table serves reading and writing, so a checkpoint goes back in the layout it came in.
 *
 * - `hf4`: Hugging Face's CLIPModel; the canonical names themselves.
 * - `hf-flat-text`, `hf-flat-vision`: one tower alone, without the `text_model.` / `vision_model.` prefix (transformers >= 5.6).
 * - `open-clip`: OpenAI and open_clip. q, k, v are the row thirds of in_proj; the projections are stored transposed, [D, P].
 *   Newer open_clip files put `text.` before every name of the text tower.
 */
import { CambiumError } from '../errors.js'

/** Where the elements of a canonical tensor lie in a file. */
export interface Placement {
  readonly source: string
  /** The rows [index·n, (index + 1)·n) of a source with `of`·n rows. */
  readonly rows?: { readonly index: number; readonly of: number }
  /** The source is the transpose of the canonical matrix. */
  readonly transpose?: true
}

export type LayoutName = 'hf4' | 'hf-flat-text' | 'hf-flat-vision' | 'open-clip'

export interface Layout {
  readonly name: LayoutName
  /** Undefined when this layout cannot hold the tensor (the other tower's). */
  place(canonical: string): Placement | undefined
  /** Tensors that carry no weight: buffers of old files. */
  ignores(source: string): boolean
}

const POSITION_IDS = /(^|\.)embeddings\.position_ids$/

/** A layout by name. `textPrefix` is for `open-clip`: `text.` in files of open_clip's CustomTextCLIP. */
export function layoutNamed(name: LayoutName, options: { textPrefix?: '' | 'text.' } = {}): Layout {
  const ignores = (source: string) => POSITION_IDS.test(source)
  switch (name) {
    case 'hf4':
      return { name, ignores, place: (canonical) => ({ source: canonical }) }
    case 'hf-flat-text':
      return { name, ignores, place: (canonical) => withoutPrefix(canonical, 'text_model.') }
    case 'hf-flat-vision':
      return { name, ignores, place: (canonical) => withoutPrefix(canonical, 'vision_model.') }
    case 'open-clip':
      return openClip(options.textPrefix ?? '')
  }
}

/** Tells the layout from the names of a file. Throws E_LAYOUT when none fits, with a few of the names. */
export function detectLayout(names: Iterable<string>): Layout {
  const all = new Set(names)
  if (all.has('visual.conv1.weight')) {
    return layoutNamed('open-clip', { textPrefix: all.has('text.token_embedding.weight') ? 'text.' : '' })
  }
  const some = (prefix: string) => [...all].some((name) => name.startsWith(prefix))
  if (some('text_model.') || some('vision_model.')) return layoutNamed('hf4')
  if (all.has('embeddings.token_embedding.weight')) return layoutNamed('hf-flat-text')
  if (all.has('embeddings.patch_embedding.weight') && all.has('embeddings.class_embedding')) return layoutNamed('hf-flat-vision')
  const shown = [...all].slice(0, 5).join(', ')
  throw new CambiumError(
    'E_LAYOUT',
    `checkpoint: expected the tensor names of a CLIP (Hugging Face, OpenAI or open_clip), got ${all.size} others: ${shown}`,
  )
}

function withoutPrefix(canonical: string, prefix: string): Placement | undefined {
  if (canonical.startsWith(prefix)) return { source: canonical.slice(prefix.length) }
  const projection = prefix === 'text_model.' ? 'text_projection.weight' : 'visual_projection.weight'
  return canonical === projection ? { source: canonical } : undefined
}

const OPEN_CLIP_FIXED: Readonly<Record<string, string>> = {
  'vision_model.embeddings.class_embedding': 'visual.class_embedding',
  'vision_model.embeddings.patch_embedding.weight': 'visual.conv1.weight',
  'vision_model.embeddings.position_embedding.weight': 'visual.positional_embedding',
  'vision_model.pre_layrnorm.weight': 'visual.ln_pre.weight',
  'vision_model.pre_layrnorm.bias': 'visual.ln_pre.bias',
  'vision_model.post_layernorm.weight': 'visual.ln_post.weight',
  'vision_model.post_layernorm.bias': 'visual.ln_post.bias',
  'visual_projection.weight': 'visual.proj',
  'text_model.embeddings.token_embedding.weight': 'token_embedding.weight',
  'text_model.embeddings.position_embedding.weight': 'positional_embedding',
  'text_model.final_layer_norm.weight': 'ln_final.weight',
  'text_model.final_layer_norm.bias': 'ln_final.bias',
  'text_projection.weight': 'text_projection',
}
const OPEN_CLIP_PARTS: Readonly<Record<string, string>> = {
  layer_norm1: 'ln_1',
  layer_norm2: 'ln_2',
  'self_attn.out_proj': 'attn.out_proj',
  'mlp.fc1': 'mlp.c_fc',
  'mlp.fc2': 'mlp.c_proj',
}
const BLOCK = /^(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$/
const OPEN_CLIP_BUFFERS = new Set(['attn_mask', 'input_resolution', 'context_length', 'vocab_size'])

function openClip(textPrefix: string): Layout {
  return {
    name: 'open-clip',
    ignores: (source) => OPEN_CLIP_BUFFERS.has(source.startsWith('text.') ? source.slice(5) : source),
    place(canonical) {
      if (canonical === 'logit_scale') return { source: canonical }
      const isText = canonical.startsWith('text')
      const prefix = isText ? textPrefix : ''
      const fixed = OPEN_CLIP_FIXED[canonical]
      if (fixed !== undefined) {
        return canonical.endsWith('_projection.weight') ? { source: prefix + fixed, transpose: true } : { source: prefix + fixed }
      }
      const match = BLOCK.exec(canonical)
      if (match === null) return undefined
      const [, , layer, part, kind] = match
      const block = `${isText ? prefix : 'visual.'}transformer.resblocks.${layer}`
      const index = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'].indexOf(part)
      if (index >= 0) return { source: `${block}.attn.in_proj_${kind}`, rows: { index, of: 3 } }
      const theirs = OPEN_CLIP_PARTS[part]
      return theirs === undefined ? undefined : { source: `${block}.${theirs}.${kind}` }
    },
  }
}
