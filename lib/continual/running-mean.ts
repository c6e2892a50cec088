// The weight ensemble of ZSCL (Zheng et al. 2023, §3.4): a running mean over weights along the run,
//
//   θ̄ ← (n θ̄ + θ) / (n + 1),  n = 1, 2, …
//
// which begins with the weights that the task began with (they count as one) and takes in every `every`-th update, the first too.
import { native } from '../native.js'
import { interpolate } from '../ops.js'
import { Parameter, scope } from '../tensor.js'

export class RunningMean {
  /** θ̄, named `<parameter>.mean`: what a resumed run needs */
  readonly state: readonly Parameter[]

  constructor(
    private readonly parameters: readonly Parameter[],
    readonly every: number,
  ) {
    this.state = parameters.map((parameter) => {
      const mean = Parameter.named(`${parameter.name}.mean`, null, parameter.shape)
      native.copy(parameter.id, mean.id)
      return mean
    })
  }

  /** Told after every update, with how many there were; n follows from that number alone. */
  afterStep(done: number): void {
    if ((done - 1) % this.every !== 0) return
    const n = (done - 1) / this.every + 1
    for (const [i, mean] of this.state.entries())
      scope(() => native.copy(interpolate(mean, this.parameters[i], 1 / (n + 1), 'f32').id, mean.id))
  }

  /** Puts θ̄ in the place of θ. */
  putInPlace(): void {
    for (const [i, mean] of this.state.entries()) native.copy(mean.id, this.parameters[i].id)
  }

  dispose(): void {
    for (const mean of this.state) mean.dispose()
  }
}
