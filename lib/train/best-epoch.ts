// The parameters of the epoch that scored best, kept beside those that train.
import { native } from '../native.js'
import { Parameter, type Tensor } from '../tensor.js'

export interface BestStanding {
  readonly epoch: number
  readonly score: number
}

export class BestEpoch {
  /** undefined before the first score */
  standing: BestStanding | undefined
  /** copies, named `<parameter>.best` and `<parameter>.best-average` */
  readonly state: readonly Parameter[]
  private readonly pairs: readonly { readonly now: Tensor; readonly kept: Parameter }[]

  constructor(parameters: readonly Parameter[], averages: ReadonlyMap<string, Tensor> | undefined) {
    const copy = (name: string, now: Tensor) => ({ now, kept: Parameter.named(name, null, now.shape) })
    this.pairs = [
      ...parameters.map((p) => copy(`${p.name}.best`, p)),
      ...[...(averages ?? [])].map(([name, average]) => copy(`${name}.best-average`, average)),
    ]
    this.state = this.pairs.map(({ kept }) => kept)
  }

  /** Keeps the parameters as they are now if the score is above the best so far. @returns whether it is */
  offer(epoch: number, score: number): boolean {
    if (this.standing && !(score > this.standing.score)) return false
    for (const { now, kept } of this.pairs) native.copy(now.id, kept.id)
    this.standing = { epoch, score }
    return true
  }

  /** Takes back a standing whose copies were read into `state`. */
  restore(standing: BestStanding): void {
    this.standing = standing
  }

  /** Puts the kept parameters in place of the present ones; nothing without a score. */
  putBack(): void {
    if (this.standing) for (const { now, kept } of this.pairs) native.copy(kept.id, now.id)
  }

  dispose(): void {
    for (const parameter of this.state) parameter.dispose()
  }
}
