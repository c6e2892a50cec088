// Which linears of a CLIP get a low-rank delta, of which rank and scaling: PEFT's rules (peft-match.ts) over canonical names.

import { nearestName } from '../checks/nearest-name.js'
import { CambiumError } from '../errors.js'
import type { ClipConfig } from '../formats/hf-config.js'
import { patternValue, targetMatcher } from '../formats/peft-match.js'
import type { LinearName, Tower } from '../injection/injection.js'
import { LINEARS, linearModule } from '../injection/linear-modules.js'

export interface LoraTargetOptions {
  /** rank (default 8) */
  r?: number
  /** numerator of the scaling α / r, or α / √r with `rslora` (default 8) */
  alpha?: number
  rslora?: boolean
  /**
   * names or last parts of names of linears (`q_proj`, `vision_model.encoder.layers.3.mlp.fc1`), a pattern for whole names
   * (a string as Python's re has it, or a RegExp), or 'all-linear': every linear of the blocks. Default q_proj and v_proj
   */
  targets?: readonly string[] | string | RegExp
  exclude?: readonly string[] | string
  /** one tower alone */
  tower?: Tower
  /** indices of blocks; default all */
  layers?: readonly number[]
  /** other ranks, and other α, by pattern: the first that matches the end of a name counts */
  rankPattern?: Readonly<Record<string, number>>
  alphaPattern?: Readonly<Record<string, number>>
}

export interface LoraTarget {
  /** canonical name: `text_model.encoder.layers.0.self_attn.v_proj` */
  readonly module: string
  readonly tower: Tower
  readonly layer: number
  readonly linear: LinearName
  readonly in: number
  readonly out: number
  readonly rank: number
  readonly alpha: number
  readonly scaling: number
}

type Linear = Pick<LoraTarget, 'module' | 'tower' | 'layer' | 'linear' | 'in' | 'out'>

/** Every linear of the blocks of both towers. */
function linearsOf(config: ClipConfig): Linear[] {
  return (['vision', 'text'] as const).flatMap((tower) => {
    const { hiddenSize: width, intermediateSize: inner, numHiddenLayers } = config[tower]
    return Array.from({ length: numHiddenLayers }, (_, layer) =>
      LINEARS.map((linear): Linear => {
        const module = linearModule(tower, layer, linear)
        return { module, tower, layer, linear, in: linear === 'fc2' ? inner : width, out: linear === 'fc1' ? inner : width }
      }),
    ).flat()
  })
}

/** @throws E_OPTION for a rank that does not fit, names that mean no linear, or no linear at all */
export function loraTargets(config: ClipConfig, options: LoraTargetOptions): LoraTarget[] {
  const { r = 8, alpha = 8, rslora = false, tower, layers } = options
  const all = linearsOf(config)
  const chosen = all.filter(selector(options, all))
  const targets = chosen.filter((one) => (tower ?? one.tower) === one.tower && (layers ?? [one.layer]).includes(one.layer))
  if (targets.length === 0) throw new CambiumError('E_OPTION', 'targets: expected at least one linear of the model, got none')
  const ranks = new Map(Object.entries(options.rankPattern ?? {}))
  const alphas = new Map(Object.entries(options.alphaPattern ?? {}))
  return targets.map((target) => {
    const rank = patternValue(ranks, target.module, r)
    const own = patternValue(alphas, target.module, alpha)
    if (!Number.isInteger(rank) || rank < 1 || rank > Math.min(target.in, target.out))
      throw new CambiumError('E_OPTION', `rank: expected 1 to ${Math.min(target.in, target.out)} for ${target.module}, got ${rank}`)
    if (!Number.isFinite(own)) throw new CambiumError('E_OPTION', `alpha: expected a finite number, got ${own}`)
    return { ...target, rank, alpha: own, scaling: own / (rslora ? Math.sqrt(rank) : rank) }
  })
}

function selector({ targets = ['q_proj', 'v_proj'], exclude }: LoraTargetOptions, all: readonly Linear[]): (one: Linear) => boolean {
  const names = all.map(({ module }) => module)
  for (const name of targets instanceof RegExp || typeof targets === 'string' ? [] : targets) {
    if (names.some((module) => module === name || module.endsWith(`.${name}`))) continue
    const parts = new Set(names.flatMap((module) => [module, module.slice(module.lastIndexOf('.') + 1)]))
    const near = nearestName(name, parts)
    throw new CambiumError('E_OPTION', `targets: expected names of linears, got ${name}${near ? `; nearest: ${near}` : ''}`)
  }
  const matches = targetMatcher({
    targetModules: targets instanceof RegExp ? 'all-linear' : targets,
    excludeModules: exclude,
    modulesToSave: [],
    layersToTransform: undefined,
    layersPattern: [],
  })
  return ({ module }) => matches(module) && (!(targets instanceof RegExp) || targets.test(module))
}
