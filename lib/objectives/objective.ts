// The loss of a batch as the trainer sees it.
import type { Parameter, Tensor } from '../tensor.js'

/** Features of a batch before normalisation -> loss. Pure: everything random was drawn before. */
export interface Objective {
  /** image and text f32 [N, P]; labels i32 [N], equal for positives of each other. Returns a scalar. */
  loss(image: Tensor, text: Tensor, labels: Tensor): Tensor
  /** what must be the same when a run is resumed */
  readonly settings: Readonly<Record<string, unknown>>
  /** scalars of its own that train */
  readonly parameters: readonly Parameter[]
}
