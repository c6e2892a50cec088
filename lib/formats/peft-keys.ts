/** Names of the tensors in adapter_model.safetensors. */

export interface PeftKey {
  readonly part: 'a' | 'b' | 'bias' | 'embeddingA' | 'embeddingB' | 'magnitude' | 'saved'
  /** the module without `base_model.model.`; of a saved tensor its own name in the base */
  readonly module: string
  /** a saved tensor that names the wrapped layer itself: it needs no leave of the configuration */
  readonly replaces: boolean
  /** the out_proj of a wrapped torch MultiheadAttention */
  readonly inAttention: boolean
}

// The adapter's name between factor and `.weight` is cut by save_pretrained, but files of state dicts carry it.
const PATTERNS: readonly (readonly [RegExp, PeftKey['part']])[] = [
  [/\.lora_A(?:\.[^.]+)?\.weight$/, 'a'],
  [/\.lora_B(?:\.[^.]+)?\.weight$/, 'b'],
  [/\.lora_B(?:\.[^.]+)?\.bias$/, 'bias'],
  [/\.lora_embedding_A(?:\.[^.]+)?$/, 'embeddingA'],
  [/\.lora_embedding_B(?:\.[^.]+)?$/, 'embeddingB'],
  [/\.lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?$/, 'magnitude'],
]

const WRAPPED_OUT = /\.base_layer\.out_proj$/

/** undefined for a name that no LoRA has. */
export function parsePeftKey(key: string): PeftKey | undefined {
  const own = key.startsWith('base_model.model.') ? key.slice('base_model.model.'.length) : key
  for (const [pattern, part] of PATTERNS) {
    const match = pattern.exec(own)
    if (match !== null && match.index > 0)
      return { part, module: unwrap(own.slice(0, match.index)), replaces: false, inAttention: WRAPPED_OUT.test(own.slice(0, match.index)) }
  }
  if (/(^|\.)(lora_|token_adapter\.)/.test(own)) return undefined
  return { part: 'saved', module: unwrap(own), replaces: /\.base_layer\.(weight|bias)$/.test(own), inAttention: false }
}

/** Without the wrappers that PEFT puts around layers. */
function unwrap(name: string): string {
  return name.replace(/\.base_layer(?=\.|$)/g, '').replace(/\.modules_to_save(?:\.default)?(?=\.|$)/g, '')
}

/** The name under which PEFT looks for a part of a module. */
export function peftKey(module: string, part: Exclude<PeftKey['part'], 'saved'>): string {
  const names = {
    a: 'lora_A.weight',
    b: 'lora_B.weight',
    bias: 'lora_B.bias',
    embeddingA: 'lora_embedding_A',
    embeddingB: 'lora_embedding_B',
    magnitude: 'lora_magnitude_vector',
  }
  return `base_model.model.${module}.${names[part]}`
}
