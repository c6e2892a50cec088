// MPM-NCE: multi-positive margin NCE (R-Adapter, ECCV 2024, §3.3, eq. 8), symmetric half-sum, τ fixed.
import { CambiumError } from '../errors.js'
import { contrastive, l2Normalize } from '../ops.js'
import { Parameter, type Tensor } from '../tensor.js'
import type { Objective } from './objective.js'

/** Of {@link MpmNceLoss}. */
export interface MpmNceOptions {
  /** δ, added to the cosine of negatives (paper: 0.05) */
  margin?: number
  /** ε, target mass shared by the negatives (paper: 0.02 for classification, 0 for retrieval) */
  epsilon?: number
  /** τ (0.01: the temperature of released CLIPs) */
  temperature?: number
}

/**
 * MPM-NCE, multi-positive margin NCE (R-Adapter, ECCV 2024, §3.3, eq. 8): image and text [B, P], pairs of equal labels [B] are positives
 * of each other, negatives' cosines are raised by δ; half of the sum of both ways, τ fixed.
 */
export class MpmNceLoss implements Objective {
  readonly parameters = []
  readonly settings: Readonly<Record<string, unknown>>
  private readonly scale: Parameter
  private readonly margin: number
  private readonly epsilon: number

  /** @throws E_OPTION for a temperature that is not positive or ε outside [0, 1) */
  constructor({ margin = 0.05, epsilon = 0.02, temperature = 0.01 }: MpmNceOptions = {}) {
    if (!(temperature > 0)) throw new CambiumError('E_OPTION', `temperature: expected a positive number, got ${temperature}`)
    if (!(epsilon >= 0 && epsilon < 1)) throw new CambiumError('E_OPTION', `epsilon: expected a number in [0, 1), got ${epsilon}`)
    this.settings = { margin, epsilon, temperature }
    this.margin = margin
    this.epsilon = epsilon
    this.scale = Parameter.named('inverse_temperature', Float32Array.of(1 / temperature), [1])
  }

  loss(image: Tensor, text: Tensor, labels: Tensor): Tensor {
    return contrastive(l2Normalize(image), l2Normalize(text), { labels, scale: this.scale, margin: this.margin, epsilon: this.epsilon })
  }
}
