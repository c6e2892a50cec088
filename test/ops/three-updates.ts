/** Three updates of an optimizer on parameters and gradients that are drawn, beside the same in float64. */
import { multiply, sum } from '../../lib/ops.js'
import type { Optimizer } from '../../lib/optim/optimizer.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'
import { normals } from './normals.js'

/** A parameter in float64, with whatever an optimizer keeps of it. */
export interface Reference {
  value: number[]
  average: number[]
}

interface Update {
  /** from 1 */
  readonly t: number
  readonly lr: number
  /** momentum of the running average */
  readonly mean: number
}

const SHAPES = [[37, 41], [5], [1, 20000]]
const float = (values: readonly number[]) => Float32Array.from(values)

/**
 * @param stateOf what the reference starts with beside value and average, for a parameter of so many numbers
 * @param update one update of the reference; gives the squared norm of the gradients before clipping, which is compared
 * @returns parameters and references after the updates, by the same index, and how each moved: [the optimizer's, the reference's]
 */
export async function threeUpdates<S>(
  make: (parameters: readonly Parameter[]) => Optimizer,
  stateOf: (size: number) => S,
  update: (states: (S & Reference)[], gradients: number[][], at: Update) => number,
) {
  const sizes = SHAPES.map((shape) => shape.reduce((a, b) => a * b, 1))
  const parameters = SHAPES.map((shape, i) => Parameter.named(`p${i}`, float(normals(i, sizes[i])), shape))
  for (const p of parameters) p.trainable = true
  const optimizer = make(parameters)
  const start = sizes.map((size, i) => float(normals(i, size)))
  const states = start.map((value) => ({ ...stateOf(value.length), value: [...value], average: [...value] }))
  for (let t = 1; t <= 3; ++t) {
    const gradients = sizes.map((size, i) => Array.from(float(normals(10 * t + i, size))))
    const at = { t, lr: 0.01 * t, mean: 0.6 }
    const norm2 = await step(() => {
      backward(parameters.map((p, i) => sum(multiply(p, Tensor.from(float(gradients[i]), SHAPES[i])))))
      return optimizer.update(at.lr, at.mean)
    })
    const want = update(states, gradients, at)
    expect(Math.abs((await norm2.item()) - want)).toBeLessThanOrEqual(1e-6 * want)
    norm2.dispose()
  }
  const from = (i: number, values: ArrayLike<number>) => Float64Array.from(values, (v, k) => v - start[i][k])
  const moves: [Float64Array, Float64Array][] = []
  for (const [i, p] of parameters.entries()) moves.push([from(i, await p.floats()), from(i, states[i].value)])
  const dispose = () => {
    optimizer.dispose()
    for (const p of parameters) p.dispose()
  }
  return { optimizer, parameters, states, moves, dispose }
}
