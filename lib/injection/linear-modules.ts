/** What the linears of a block are called in checkpoints: the canonical names of their modules. */
import type { LinearName, Tower } from './injection.js'

const PARTS: Readonly<Record<LinearName, string>> = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  out: 'self_attn.out_proj',
  fc1: 'mlp.fc1',
  fc2: 'mlp.fc2',
}

export const LINEARS = Object.keys(PARTS) as readonly LinearName[]

/** `text_model.encoder.layers.3.self_attn.q_proj` */
export const linearModule = (tower: Tower, layer: number, linear: LinearName): string =>
  `${tower}_model.encoder.layers.${layer}.${PARTS[linear]}`

/** The module whose weight has this canonical name; undefined where that is no linear of a block. */
export function moduleOfWeight(weight: string): string | undefined {
  const match = /^((?:vision|text)_model\.encoder\.layers\.\d+\.(.+))\.weight$/.exec(weight)
  return match !== null && Object.values(PARTS).includes(match[2]) ? match[1] : undefined
}
