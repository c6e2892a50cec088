// What a trainer asks of an optimizer, and which there are.
import { CambiumError } from '../errors.js'
import type { Parameter, Tensor } from '../tensor.js'
import { AdamW, type SharedOptions } from './adamw.js'
import { Sgd } from './sgd.js'

export interface Optimizer {
  /** updates done so far; set when a run is resumed */
  updates: number
  /** Queues one update and drops the gradients; inside a step. @returns the squared global norm of the gradients, [1] */
  update(lr: number, momentum?: number): Tensor
  /** The first half of {@link update}, outside of a captured step: what the next update needs from the host. */
  prepare(lr: number, momentum?: number): void
  /** The second half, which a captured step may contain. */
  apply(): Tensor
  /** running averages by parameter name; undefined when none are kept */
  readonly averages: ReadonlyMap<string, Tensor> | undefined
  /** everything that a resumed run needs, by name */
  state(): Parameter[]
  dispose(): void
}

export interface OptimizerOptions {
  readonly name: 'adamw' | 'sgd'
  /** of SGD. Default 0 */
  readonly momentum?: number
  readonly anchor?: SharedOptions['anchor']
}

/** @throws E_OPTION without parameters, or for an option that the optimizer has not */
export function createOptimizer(
  parameters: readonly Parameter[],
  { name, momentum, anchor }: OptimizerOptions = { name: 'adamw' },
  shared: SharedOptions,
): Optimizer {
  if (name === 'sgd') return new Sgd(parameters, { ...shared, momentum, anchor })
  if (momentum !== undefined) throw new CambiumError('E_OPTION', `optimizer: expected momentum beside sgd, got ${momentum} beside adamw`)
  return new AdamW(parameters, { ...shared, anchor })
}
