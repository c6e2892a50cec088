import { sum } from '../../lib/ops.js'
import { createOptimizer } from '../../lib/optim/create-optimizer.js'
import { Sgd, type SgdOptions } from '../../lib/optim/sgd.js'
import { backward, Parameter, step } from '../../lib/tensor.js'
import { codeOf } from '../core/code-of.js'
import { relativeError } from './check-case.js'
import { type Reference, threeUpdates } from './three-updates.js'

// SGD with momentum, decay, clipping and the running average, three updates against float64 (PyTorch's torch.optim.SGD
// without dampening; native/ops/args.h).
type State = Reference & { m: number[] }

/** One update in float64. Returns the squared norm of the gradients before clipping. */
function update(states: State[], gradients: number[][], o: Required<Omit<SgdOptions, 'anchor'>>, lr: number, mean: number): number {
  const norm2 = gradients.flat().reduce((total, g) => total + g * g, 0)
  const clip = o.clipNorm > 0 ? Math.min(1, o.clipNorm / (Math.sqrt(norm2) + 1e-6)) : 1
  states.forEach((s, p) => {
    const decay = s.value.length > 5 ? o.weightDecay : 0
    s.value.forEach((value, i) => {
      s.m[i] = o.momentum * s.m[i] + gradients[p][i] * clip + decay * value
      s.value[i] = value - lr * s.m[i]
      s.average[i] = mean * s.average[i] + (1 - mean) * s.value[i]
    })
  })
  return norm2
}

const float = (values: readonly number[]) => Float32Array.from(values)

test.each<[string, SgdOptions]>([
  ['plain', {}],
  ['with momentum', { momentum: 0.9 }],
  ['with decay', { weightDecay: 0.2 }],
  ['with everything', { momentum: 0.8, weightDecay: 0.01, clipNorm: 0.75 }],
])('%s', async (_, given) => {
  const o = { momentum: 0, weightDecay: 0, clipNorm: 0, average: true, decays: (p: Parameter) => p.count > 5, ...given }
  const { optimizer, parameters, states, moves, dispose } = await threeUpdates(
    (all) => new Sgd(all, o),
    (size) => ({ m: Array<number>(size).fill(0) }),
    (all, gradients, { lr, mean }) => update(all, gradients, o, lr, mean),
  )
  const named = new Map(optimizer.state().map((p) => [p.name, p]))
  expect(named.has('p0.m')).toBe(o.momentum > 0)
  for (const [i, s] of states.entries()) {
    expect(relativeError(...moves[i])).toBeLessThanOrEqual(1e-3) // docs/architecture.md §6; clipped gradients move little
    if (o.momentum > 0) expect(relativeError(await named.get(`p${i}.m`)!.floats(), Float64Array.from(s.m))).toBeLessThanOrEqual(2e-6)
    expect(relativeError(await optimizer.averages!.get(`p${i}`)!.floats(), Float64Array.from(s.average))).toBeLessThanOrEqual(2e-6)
    expect(parameters[i].gradient).toBeUndefined() // dropped by the update
  }
  dispose()
})

test('a parameter without a gradient: untouched without momentum, carried on with it', async () => {
  const run = async (momentum: number) => {
    const [moved, still] = ['moved', 'still'].map((name) => Parameter.named(name, float([1, -2, 1e-40]), [3]))
    moved.trainable = still.trainable = true
    const optimizer = new Sgd([moved, still], { momentum })
    for (const parameters of [[moved, still], [moved]].slice(momentum > 0 ? 0 : 1)) {
      const norm2 = await step(() => {
        backward(parameters.map((p) => sum(p)))
        return optimizer.update(0.5)
      })
      norm2.dispose()
    }
    const values = [...(await still.floats())]
    optimizer.dispose()
    for (const p of [moved, still]) p.dispose()
    return values
  }
  expect(await run(0)).toEqual([...float([1, -2, 1e-40])])
  expect((await run(0.5)).slice(0, 2)).toEqual([0.25, -2.75]) // −0.5·1, then −0.5·0.5
})

test('chosen by name, and its options checked', async () => {
  const p = Parameter.named('p', float([1]), [1])
  const optimizer = createOptimizer([p], { name: 'sgd', momentum: 0.5 }, {})
  expect(optimizer).toBeInstanceOf(Sgd)
  optimizer.dispose()
  expect(await codeOf(async () => createOptimizer([p], { name: 'adamw', momentum: 0.5 }, {}))).toBe('E_OPTION')
  for (const momentum of [-0.1, 1, Number.NaN]) expect(await codeOf(async () => new Sgd([p], { momentum }))).toBe('E_OPTION')
  expect(await codeOf(async () => new Sgd([]))).toBe('E_OPTION')
  p.dispose()
})
