// Stochastic gradient descent as in PyTorch: momentum without dampening, decay added to the gradient, clipping by the
// global norm and a running average of the parameters, all in one pass of the native core.
import { CambiumError } from '../errors.js'
import { native, type SgdEntry } from '../native.js'
import { type Parameter, Tensor } from '../tensor.js'
import { Optimizer, type SharedOptions } from './optimizer.js'

/** Of {@link Sgd}. */
export interface SgdOptions extends SharedOptions {
  /** m = momentum·m + g is what moves a parameter. Default 0: g itself, and no state is kept */
  momentum?: number
}

/** θ −= lr·m. A parameter without a gradient takes part with a zero one: without momentum and decay it stays as it is. */
export class Sgd extends Optimizer {
  private readonly perParameter: readonly SgdEntry[]
  private readonly settings: { momentum: number; maxNorm: number }

  /** @throws E_OPTION without parameters or for a momentum outside [0, 1) */
  constructor(parameters: readonly Parameter[], options: SgdOptions = {}) {
    const { momentum = 0, clipNorm = 0 } = options
    if (!(momentum >= 0 && momentum < 1)) throw new CambiumError('E_OPTION', `sgd: expected momentum in [0, 1), got ${momentum}`)
    super(parameters, { name: 'sgd', moments: momentum > 0 ? ['m'] : [], schedule: 2 }, options)
    this.settings = { momentum, maxNorm: clipNorm }
    this.perParameter = this.entries(([m]) => ({ m: m?.id ?? 0 }))
  }

  prepare(lr: number, momentum = 0): void {
    this.updates++
    this.schedule.write(Float32Array.of(lr, momentum))
  }

  apply(): Tensor {
    return new Tensor(native.sgd(this.perParameter, this.schedule.id, this.settings))
  }
}
