// InfoNCE as CLIP pretrains with it (Radford et al. 2021) and as FLYP fine-tunes with it (Goyal et al. 2023): every pair
// is its own positive, pairs of the same class are negatives of each other, the scale exp(logit_scale) is learned.
import { contrastive, l2Normalize } from '../ops.js'
import { type Parameter, Tensor } from '../tensor.js'
import type { Objective } from './objective.js'

/** Of {@link InfoNceLoss}. */
export interface InfoNceOptions {
  /** pairs with equal labels are positives of each other (multi-positive); default false */
  multiPositive?: boolean
}

/**
 * InfoNCE as CLIP pretrains with it (Radford et al. 2021) and FLYP fine-tunes with it (Goyal et al. 2023): image and text [B, P], each
 * pair its own positive, half of the sum of both ways; the scale exp(logit_scale) trains.
 */
export class InfoNceLoss implements Objective {
  readonly parameters: readonly Parameter[]
  readonly settings: Readonly<Record<string, unknown>>

  /** @param logitScale ln of the inverse temperature, f32 [1]; trains when it is trainable */
  constructor(
    private readonly logitScale: Parameter,
    private readonly options: InfoNceOptions = {},
  ) {
    this.settings = { multiPositive: options.multiPositive ?? false }
    this.parameters = logitScale.trainable ? [logitScale] : []
  }

  loss(image: Tensor, text: Tensor, labels: Tensor): Tensor {
    const count = labels.count
    const own = this.options.multiPositive
      ? labels
      : Tensor.from(
          Int32Array.from({ length: count }, (_, i) => i),
          [count],
          'i32',
        )
    return contrastive(l2Normalize(image), l2Normalize(text), { labels: own, scale: this.logitScale, logScale: true })
  }
}
