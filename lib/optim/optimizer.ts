// What every optimizer has: its tensors for each parameter, a running average among them if one is wanted, and an update in two
// halves. The update itself, with clipping by the global norm and the average, is one pass of the native core.
import { CambiumError } from '../errors.js'
import { native, type SgdEntry } from '../native.js'
import { Parameter, type Tensor } from '../tensor.js'

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

interface State {
  readonly parameter: Parameter
  /** in the order of their names */
  readonly moments: readonly Parameter[]
  readonly average?: Parameter
}

export abstract class Optimizer {
  /** updates done so far; set when a run is resumed */
  updates = 0
  /** what an update reads that changes from step to step: the learning rate first */
  protected readonly schedule: Parameter
  private readonly states: readonly State[]

  /**
   * @param moments names of the tensors that it keeps for each parameter, zeros at first
   * @param schedule length of its schedule
   * @throws E_OPTION without parameters
   */
  protected constructor(
    parameters: readonly Parameter[],
    { name, moments, schedule }: { name: string; moments: readonly string[]; schedule: number },
    private readonly shared: SharedOptions,
  ) {
    if (parameters.length === 0) throw new CambiumError('E_OPTION', `${name}: expected at least one parameter, got none`)
    this.schedule = Parameter.named('schedule', null, [schedule])
    this.states = parameters.map((parameter) => {
      const zeros = (kind: string) => Parameter.named(`${parameter.name}.${kind}`, null, parameter.shape)
      const state: State = { parameter, moments: moments.map(zeros), average: shared.average ? zeros('average') : undefined }
      if (state.average) native.copy(parameter.id, state.average.id) // the average starts at the start
      return state
    })
  }

  /** Queues one update and drops the gradients; inside a step. @returns the squared global norm of the gradients, [1] */
  update(lr: number, momentum = 0): Tensor {
    this.prepare(lr, momentum)
    return this.apply()
  }

  /**
   * The first half of {@link update}, outside of a captured step: what the next update needs from the host.
   * @param momentum of the running averages
   */
  abstract prepare(lr: number, momentum?: number): void

  /** The second half, which a captured step may contain. */
  abstract apply(): Tensor

  /** Running averages by parameter name; undefined when none are kept. */
  get averages(): ReadonlyMap<string, Tensor> | undefined {
    if (!this.states[0].average) return undefined
    return new Map(this.states.map(({ parameter, average }) => [parameter.name, average as Tensor]))
  }

  /** Everything that a resumed run needs, by name: parameters, moments, averages. */
  state(): Parameter[] {
    return this.states.flatMap(({ parameter, moments, average }) => [parameter, ...moments, ...(average ? [average] : [])])
  }

  dispose(): void {
    for (const { moments, average } of this.states) for (const tensor of [...moments, average]) tensor?.dispose()
    this.schedule.dispose()
  }

  /** For each parameter what the native core's update reads; moments are ids in the order of their names. */
  protected entries<M>(momentsOf: (moments: readonly Parameter[]) => M): (Omit<SgdEntry, 'm'> & M)[] {
    const { weightDecay = 0, anchor, decays = ({ shape }) => shape.length >= 2 } = this.shared
    return this.states.map(({ parameter, moments, average }) => {
      const to = anchor?.tensors.get(parameter.name)
      return {
        parameter: parameter.id,
        average: average?.id ?? 0,
        decay: decays(parameter) ? weightDecay : 0,
        lrScale: 1,
        anchor: to?.id,
        pull: to && anchor?.pull,
        ...momentsOf(moments),
      }
    })
  }
}
