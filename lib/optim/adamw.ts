// AdamW (Loshchilov & Hutter 2019) with decoupled decay, clipping by the global norm and a running average of the
// parameters, all in one pass of the native core.
import { type AdamWEntry, native } from '../native.js'
import { type Parameter, Tensor } from '../tensor.js'
import { Optimizer, type SharedOptions } from './optimizer.js'

/** β₁ 0.9, β₂ 0.999 and ε 1e-8 by default. */
export interface AdamWOptions extends SharedOptions {
  /** decay of the mean of gradients */
  beta1?: number
  /** decay of the mean of their squares */
  beta2?: number
  /** added to the root, so that nothing is divided by zero */
  eps?: number
}

/** AdamW (Loshchilov & Hutter 2019): decoupled decay, clipping by the global norm, and a running average if one is wanted. */
export class AdamW extends Optimizer {
  private readonly perParameter: readonly AdamWEntry[]
  private readonly settings: { beta1: number; beta2: number; eps: number; maxNorm: number }

  /** @throws E_OPTION without parameters */
  constructor(parameters: readonly Parameter[], options: AdamWOptions = {}) {
    super(parameters, { name: 'adamw', moments: ['m', 'v'], schedule: 4 }, options)
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, clipNorm = 0 } = options
    this.settings = { beta1, beta2, eps, maxNorm: clipNorm }
    this.perParameter = this.entries(([m, v]) => ({ m: m.id, v: v.id }))
  }

  prepare(lr: number, momentum = 0): void {
    this.updates++
    const { beta1, beta2 } = this.settings
    this.schedule.write(Float32Array.of(lr, 1 - beta1 ** this.updates, 1 - beta2 ** this.updates, momentum))
  }

  apply(): Tensor {
    return new Tensor(native.adamw(this.perParameter, this.schedule.id, this.settings))
  }
}
