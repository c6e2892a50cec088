// What a trainer asks of an optimizer, and which there are.

import { CambiumError } from '../errors.js'
import type { Parameter, Tensor } from '../tensor.js'
import { AdamW, type AdamWOptions } from './adamw.js'

export interface Optimizer {
  /** updates done so far; set when a run is resumed */
  updates: number
  /** Queues one update and drops the gradients; inside a step. @returns the squared global norm of the gradients, [1] */
  update(lr: number, momentum?: number): Tensor
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
  /** adds pull·Σ‖θ − anchor‖² to the loss (of AdamW): ZSCL's ℓ2 term. Tensors by parameter name. */
  readonly anchor?: { readonly tensors: ReadonlyMap<string, Tensor>; readonly pull: number }
}

/** @throws E_OPTION without parameters, or for an option that the optimizer has not */
export function createOptimizer(
  parameters: readonly Parameter[],
  options: OptimizerOptions = { name: 'adamw' },
  shared: AdamWOptions,
): Optimizer {
  if (options.name === 'sgd') throw new CambiumError('E_OPTION', 'optimizer: expected adamw, got sgd')
  return new AdamW(parameters, shared)
}
