// AdamW (Loshchilov & Hutter 2019) with decoupled decay, clipping by the global norm and a running average of the
// parameters, all in one pass of the native core.
import { CambiumError } from '../errors.js'
import { type AdamWEntry, native, type SgdEntry } from '../native.js'
import { Parameter, Tensor } from '../tensor.js'

/** What every optimizer has. */
export interface SharedOptions {
  weightDecay?: number
  /** where decay applies (default: tensors with two or more dimensions) */
  decays?: (parameter: Parameter) => boolean
  /** gradients are scaled down to this global norm; 0: never */
  clipNorm?: number
  /** keep a running average of each parameter */
  average?: boolean
  /** adds pull·Σ‖θ − anchor‖² to the loss, without a tensor of its size (ZSCL, Zheng et al. 2023). Tensors by parameter name */
  anchor?: { readonly tensors: ReadonlyMap<string, Tensor>; readonly pull: number }
}

export interface AdamWOptions extends SharedOptions {
  beta1?: number
  beta2?: number
  eps?: number
}

/** The part of a parameter's entry that does not depend on the optimizer. */
export function sharedEntry(parameter: Parameter, options: SharedOptions): Pick<SgdEntry, 'decay' | 'lrScale' | 'anchor' | 'pull'> {
  const { weightDecay = 0, anchor } = options
  const decays = options.decays ?? (({ shape }: Parameter) => shape.length >= 2)
  const to = anchor?.tensors.get(parameter.name)
  return { decay: decays(parameter) ? weightDecay : 0, lrScale: 1, anchor: to?.id, pull: to && anchor?.pull }
}

interface State {
  readonly parameter: Parameter
  readonly m: Parameter
  readonly v: Parameter
  readonly average?: Parameter
}

export class AdamW {
  /** Updates done so far. */
  updates = 0
  private readonly states: State[]
  private readonly entries: AdamWEntry[]
  private readonly schedule = Parameter.named('schedule', null, [4])
  private readonly settings: { beta1: number; beta2: number; eps: number; maxNorm: number }

  constructor(parameters: readonly Parameter[], options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, clipNorm = 0, average = false } = options
    if (parameters.length === 0) throw new CambiumError('E_OPTION', 'adamw: expected at least one parameter, got none')
    this.settings = { beta1, beta2, eps, maxNorm: clipNorm }
    this.states = parameters.map((parameter) => {
      const zeros = (kind: string) => Parameter.named(`${parameter.name}.${kind}`, null, parameter.shape)
      const state: State = { parameter, m: zeros('m'), v: zeros('v'), average: average ? zeros('average') : undefined }
      if (state.average) native.copy(parameter.id, state.average.id) // the average starts at the start
      return state
    })
    this.entries = this.states.map(({ parameter, m, v, average: mean }) => ({
      parameter: parameter.id,
      m: m.id,
      v: v.id,
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
    const { beta1, beta2 } = this.settings
    this.schedule.write(Float32Array.of(lr, 1 - beta1 ** this.updates, 1 - beta2 ** this.updates, momentum))
  }

  /** The second half, which a captured step may contain. */
  apply(): Tensor {
    return new Tensor(native.adamw(this.entries, this.schedule.id, this.settings))
  }

  /** Running averages by parameter name; undefined when none are kept. */
  get averages(): ReadonlyMap<string, Tensor> | undefined {
    if (!this.states[0].average) return undefined
    return new Map(this.states.map(({ parameter, average }) => [parameter.name, average as Tensor]))
  }

  /** Everything that a resumed run needs, by name: parameters, moments, averages. */
  state(): Parameter[] {
    return this.states.flatMap(({ parameter, m, v, average }) => (average ? [parameter, m, v, average] : [parameter, m, v]))
  }

  dispose(): void {
    for (const { m, v, average } of this.states) for (const tensor of [m, v, average]) tensor?.dispose()
    this.schedule.dispose()
  }
}
