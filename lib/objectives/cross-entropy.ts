// Cross-entropy over classes (DIKI and most continual methods on CLIP): logits exp(logit_scale) · cos(image, text), one text a class.
import { crossEntropy, l2Normalize, linear } from '../ops.js'
import type { Parameter, Tensor } from '../tensor.js'
import type { Objective } from './objective.js'

/** Of {@link ClassCrossEntropy}. */
export interface ClassCrossEntropyOptions {
  /** share of the target that all classes have alike; default 0 */
  smoothing?: number
}

/** For a trainer with `classTexts`: image [B, P], text [C, P], labels [B] the class of each image. */
export class ClassCrossEntropy implements Objective {
  readonly parameters: readonly Parameter[]
  readonly settings: Readonly<Record<string, unknown>>

  /** @param logitScale ln of the inverse temperature, f32 [1]; trains when it is trainable */
  constructor(
    private readonly logitScale: Parameter,
    private readonly options: ClassCrossEntropyOptions = {},
  ) {
    this.settings = { smoothing: options.smoothing ?? 0 }
    this.parameters = logitScale.trainable ? [logitScale] : []
  }

  loss(image: Tensor, text: Tensor, labels: Tensor): Tensor {
    const logits = linear(l2Normalize(image), l2Normalize(text), { dtype: 'f32' })
    return crossEntropy(logits, { labels, scale: this.logitScale, logScale: true, smoothing: this.options.smoothing })
  }
}
