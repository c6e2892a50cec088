// Cross-entropy of images of several sets at once, each among the classes of its own set:
//
//   L = mean_i −log softmax_{c ∈ G(y_i)}(exp(s) x_i·t_c)[y_i],  G(y) the classes of y's set,
//
// with label smoothing ε over that set: target (1 − ε)·[c = y] + ε/|G|. Other classes get no probability and no gradient.
import { CambiumError } from '../errors.js'
import { add, crossEntropy, gatherRows, l2Normalize, linear, sum } from '../ops.js'
import { Parameter, type Tensor } from '../tensor.js'
import type { Objective } from './objective.js'

export interface GroupedCrossEntropyOptions {
  /** ε; default 0 */
  smoothing?: number
}

/** A cosine that no softmax gives anything: far below −1, and times any scale up to 1e30 still finite. */
const NEVER = -1e4

export class GroupedCrossEntropy implements Objective {
  readonly parameters: readonly Parameter[]
  readonly settings: Readonly<Record<string, unknown>>
  private readonly smoothing: number
  /** [C, C]: zero where the column's class is of the row's group */
  private readonly masks: Parameter

  /**
   * @param logScale s, ln of the inverse temperature, f32 [1]; trains when it is trainable
   * @param groups how many classes each group has, in the order of the classes
   */
  constructor(
    private readonly logScale: Parameter,
    groups: readonly number[],
    { smoothing = 0 }: GroupedCrossEntropyOptions = {},
  ) {
    if (!(smoothing >= 0 && smoothing < 1)) throw new CambiumError('E_OPTION', `smoothing: expected a number in [0, 1), got ${smoothing}`)
    this.smoothing = smoothing
    this.settings = { groups, smoothing }
    this.parameters = logScale.trainable ? [logScale] : []
    const groupOf = groups.flatMap((count, g) => new Array<number>(count).fill(g))
    const classes = groupOf.length
    const masks = Float32Array.from({ length: classes * classes }, (_, i) =>
      groupOf[Math.floor(i / classes)] === groupOf[i % classes] ? 0 : NEVER,
    )
    this.masks = Parameter.named('masks', masks, [classes, classes])
  }

  /** image [B, P], text [C, P] before normalisation, labels i32 [B] of all C classes. */
  loss(image: Tensor, text: Tensor, labels: Tensor): Tensor {
    const own = gatherRows(this.masks, labels)
    const logits = linear(l2Normalize(image), l2Normalize(text), { dtype: 'f32', residual: own })
    const scaled = { scale: this.logScale, logScale: true }
    const loss = crossEntropy(logits, { labels, ...scaled })
    if (this.smoothing === 0) return loss
    // The softmax of a mask is uniform over the group.
    return add(sum(loss, 1 - this.smoothing), sum(crossEntropy(logits, { teacher: own, ...scaled }), this.smoothing))
  }

  dispose(): void {
    this.masks.dispose()
  }
}
