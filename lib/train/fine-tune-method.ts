/** The methods that the command line trains with, and their published settings. */
import type { Method } from '../injection/injection.js'
import { FullFineTuning } from '../methods/full-fine-tuning.js'
import { Lora, type LoraOptions } from '../methods/lora.js'
import { RAdapter } from '../methods/r-adapter.js'
import type { Clip } from '../models/clip.js'
import { InfoNceLoss } from '../objectives/info-nce.js'
import { MpmNceLoss } from '../objectives/mpm-nce.js'
import type { Objective } from '../objectives/objective.js'

export const METHODS = ['r-adapter', 'lora', 'full', 'flyp'] as const

export interface MethodOptions {
  /**
   * `r-adapter` (Kim et al. 2024); `lora` (Hu et al. 2022, as HF PEFT defines it); `full`: every weight with the same objective; `flyp` (Goyal et al. 2023): every weight and
   * the learnable scale with InfoNCE, images of one class being negatives of each other.
   */
  method: (typeof METHODS)[number]
  /** Of R-Adapter (see RAdapterOptions), and of LoRA (default 8). */
  rank?: number
  drop?: number
  dropBy?: 'adapter' | 'token'
  scale?: number
  seed?: number
  /** Of LoRA, beside rank and seed. */
  lora?: Omit<LoraOptions, 'r' | 'seed'>
  /** Of MPM-NCE: δ 0.05, ε 0.02 (the command line: 0 for captions), τ 0.01. */
  margin?: number
  epsilon?: number
  temperature?: number
}

/**
 * Learning rate, decay and averaging of the papers: R-Adapter's 5e-4, 0 and EMA; FLYP's 1e-5 and 0.1; LoRA's as CLIP-LoRA trains
 * both towers (Zanella & Ben Ayed 2024), 2e-4 and 0.01.
 */
export function methodDefaults({ method }: Pick<MethodOptions, 'method'>): { lr: number; weightDecay: number; ema: boolean } {
  if (method === 'lora') return { lr: 2e-4, weightDecay: 0.01, ema: false }
  return method === 'r-adapter' ? { lr: 5e-4, weightDecay: 0, ema: true } : { lr: 1e-5, weightDecay: 0.1, ema: false }
}

/** The α of the merged model when nothing chooses it: half of an R-Adapter (captions: 0.8), as its paper; all of a LoRA. */
export function defaultAlpha({ method }: Pick<MethodOptions, 'method'>, labelled: boolean): number {
  return method === 'lora' ? 1 : labelled ? 0.5 : 0.8
}

export interface TrainedMethod {
  readonly method: Method
  readonly objective: Objective
  dispose(): void
}

/** @throws E_OPTION for options out of range */
export async function createMethod(clip: Clip, options: MethodOptions): Promise<TrainedMethod> {
  const { method, rank, drop, dropBy, scale, seed, margin, epsilon, temperature } = options
  const mpmNce = () => new MpmNceLoss({ margin, epsilon, temperature })
  if (method === 'r-adapter') {
    const objective = mpmNce()
    const adapter = new RAdapter(clip, { rank, drop, dropBy, scale, seed })
    return { method: adapter, objective, dispose: () => adapter.dispose() }
  }
  if (method === 'lora') {
    const objective = mpmNce()
    const lora = await Lora.create(clip, { ...options.lora, r: rank, seed })
    return { method: lora, objective, dispose: () => lora.dispose() }
  }
  const flyp = method === 'flyp'
  const objective = flyp ? undefined : mpmNce()
  const full = await FullFineTuning.create(clip, { logitScale: flyp })
  return { method: full, objective: objective ?? new InfoNceLoss(clip.logitScale), dispose: () => {} }
}
