// Stochastic gradient descent as in PyTorch: momentum without dampening, decay added to the gradient, clipping by the
// global norm and a running average of the parameters, all in one pass of the native core.
import { CambiumError } from '../errors.js'
import { native, type SgdEntry } from '../native.js'
import { Parameter, Tensor } from '../tensor.js'
import { type SharedOptions, sharedEntry } from './adamw.js'

export interface SgdOptions extends SharedOptions {
  /** m = momentum·m + g is what moves a parameter. Default 0: g itself, and no state is kept */
  momentum?: number
}

/** θ −= lr·m. A parameter without a gradient takes part with a zero one: without momentum and decay it stays as it is. */
export class Sgd {
  /** Updates done so far. */
  updates = 0
  private readonly states: readonly { readonly parameter: Parameter; readonly m?: Parameter; readonly average?: Parameter }[]
  private readonly entries: SgdEntry[]
  private readonly schedule = Parameter.named('schedule', null, [2])
  private readonly settings: { momentum: number; maxNorm: number }

  constructor(parameters: readonly Parameter[], options: SgdOptions = {}) {
    const { momentum = 0, clipNorm = 0, average = false } = options
    if (parameters.length === 0) throw new CambiumError('E_OPTION', 'sgd: expected at least one parameter, got none')
    if (!(momentum >= 0 && momentum < 1)) throw new CambiumError('E_OPTION', `sgd: expected momentum in [0, 1), got ${momentum}`)
    this.settings = { momentum, maxNorm: clipNorm }
    this.states = parameters.map((parameter) => {
      const zeros = (kind: string, wanted: boolean) =>
        wanted ? Parameter.named(`${parameter.name}.${kind}`, null, parameter.shape) : undefined
      const state = { parameter, m: zeros('m', momentum > 0), average: zeros('average', average) }
      if (state.average) native.copy(parameter.id, state.average.id) // the average starts at the start
      return state
    })
    this.entries = this.states.map(({ parameter, m, average: mean }) => ({
      parameter: parameter.id,
      m: m?.id ?? 0,
      average: mean?.id ?? 0,
      ...sharedEntry(parameter, options),
    }))
  }

  /** Queues one update and drops the gradients; inside a step. @returns the squared global norm of the gradients, [1] */
  update(lr: number, momentum = 0): Tensor {
    this.prepare(lr, momentum)
    return this.apply()
  }

  /** The first half of {@link update}, outside of a captured step: what the next update needs from the host. */
  prepare(lr: number, momentum = 0): void {
    this.updates++
    this.schedule.write(Float32Array.of(lr, momentum))
  }

  /** The second half, which a captured step may contain. */
  apply(): Tensor {
    return new Tensor(native.sgd(this.entries, this.schedule.id, this.settings))
  }

  /** Running averages by parameter name; undefined when none are kept. */
  get averages(): ReadonlyMap<string, Tensor> | undefined {
    if (!this.states[0].average) return undefined
    return new Map(this.states.map(({ parameter, average }) => [parameter.name, average as Tensor]))
  }

  /** Everything that a resumed run needs, by name: parameters, momentum, averages. */
  state(): Parameter[] {
    return this.states.flatMap(({ parameter, m, average }) => [parameter, m, average].filter((p) => p !== undefined))
  }

  dispose(): void {
    for (const { m, average } of this.states) for (const tensor of [m, average]) tensor?.dispose()
    this.schedule.dispose()
  }
}
