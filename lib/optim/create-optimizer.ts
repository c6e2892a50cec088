// The optimizers that a trainer can be asked for, by name.
import { CambiumError } from '../errors.js'
import type { Parameter } from '../tensor.js'
import { AdamW } from './adamw.js'
import type { Optimizer, SharedOptions } from './optimizer.js'
import { Sgd } from './sgd.js'

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
