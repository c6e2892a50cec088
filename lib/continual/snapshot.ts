// Copies of parameters as they were at one moment: the start of a task, a teacher.
import type { Injection } from '../injection/injection.js'
import { native } from '../native.js'
import { Parameter, type Tensor } from '../tensor.js'

/** Of f32 tensors. */
export const bytesOf = (tensors: readonly { readonly count: number }[]): number => tensors.reduce((sum, { count }) => sum + 4 * count, 0)

export class Snapshot {
  /** by parameter name; f32, the shape of the parameter */
  readonly tensors: ReadonlyMap<string, Tensor>

  constructor(parameters: readonly Parameter[]) {
    this.tensors = new Map(
      parameters.map((parameter) => {
        const copy = Parameter.named(`${parameter.name}.start`, null, parameter.shape)
        native.copy(parameter.id, copy.id)
        return [parameter.name, copy]
      }),
    )
  }

  /** The model with these weights in place of its own. */
  get model(): Injection {
    return { weights: this.tensors, layer: () => undefined }
  }

  get bytes(): number {
    return bytesOf([...this.tensors.values()])
  }

  dispose(): void {
    for (const tensor of this.tensors.values()) tensor.dispose()
  }
}
