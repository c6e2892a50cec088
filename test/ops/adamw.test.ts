import { native } from '../../lib/native.js'
import { multiply, sum } from '../../lib/ops.js'
import { AdamW, type AdamWOptions } from '../../lib/optim/adamw.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'
import { relativeError } from './check-case.js'
import { normals } from './normals.js'
import { type Reference, threeUpdates } from './three-updates.js'

// AdamW with decay, clipping and the running average, three updates against float64 (Loshchilov & Hutter 2019,
// algorithm 2; native/ops/args.h).
interface Moments {
  m: number[]
  v: number[]
}

/** One update in float64. Returns the squared norm of the gradients before clipping. */
function update(
  states: (Reference & Moments)[],
  gradients: number[][],
  t: number,
  o: Required<Omit<AdamWOptions, 'anchor'>>,
  lr: number,
  mean: number,
): number {
  const norm2 = gradients.flat().reduce((total, g) => total + g * g, 0)
  const clip = o.clipNorm > 0 ? Math.min(1, o.clipNorm / (Math.sqrt(norm2) + 1e-6)) : 1
  states.forEach((s, p) => {
    const decay = s.value.length > 5 ? o.weightDecay : 0
    s.value.forEach((value, i) => {
      const g = gradients[p][i] * clip
      s.m[i] = o.beta1 * s.m[i] + (1 - o.beta1) * g
      s.v[i] = o.beta2 * s.v[i] + (1 - o.beta2) * g * g
      const [c1, c2] = [1 - o.beta1 ** t, 1 - o.beta2 ** t]
      s.value[i] = value * (1 - lr * decay) - ((lr / c1) * s.m[i]) / (Math.sqrt(s.v[i] / c2) + o.eps)
      s.average[i] = mean * s.average[i] + (1 - mean) * s.value[i]
    })
  })
  return norm2
}

const float = (values: readonly number[]) => Float32Array.from(values)
const settings: [string, Partial<AdamWOptions>][] = [
  ['plain', {}],
  ['with decay', { weightDecay: 0.2 }],
  ['with clipping', { clipNorm: 0.75 }],
  ['with a bound that is never met', { clipNorm: 1e6 }],
  ['other betas and eps', { beta1: 0.8, beta2: 0.95, eps: 1e-3, weightDecay: 0.01, clipNorm: 2 }],
]

test.each(settings)('%s', async (_, given) => {
  const o = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, clipNorm: 0, average: true, decays: () => true, ...given }
  const { optimizer, parameters, states, moves, dispose } = await threeUpdates(
    (all) => new AdamW(all, { ...o, decays: (p) => p.count > 5 }),
    (size): Moments => ({ m: Array(size).fill(0), v: Array(size).fill(0) }),
    (all, gradients, { t, lr, mean }) => update(all, gradients, t, o, lr, mean),
  )
  const named = new Map(optimizer.state().map((p) => [p.name, p]))
  for (const [i, s] of states.entries()) {
    expect(relativeError(...moves[i])).toBeLessThanOrEqual(1e-4) // docs/architecture.md §6 allows 1e-3 for the change of weights
    for (const kind of ['m', 'v', 'average'] as const)
      expect(relativeError(await named.get(`p${i}.${kind}`)!.floats(), Float64Array.from(s[kind]))).toBeLessThanOrEqual(2e-6)
    expect(parameters[i].gradient).toBeUndefined() // dropped by the update
  }
  dispose()
})

test('a parameter without a gradient takes part with a zero one', async () => {
  const p = Parameter.named('p', float([1, -2]), [2])
  const m = Parameter.named('m', float([1, 1]), [2])
  const v = Parameter.named('v', float([4, 4]), [2])
  p.trainable = true
  const schedule = Parameter.named('schedule', float([0.5, 1, 1, 0]), [4])
  const norm2 = await step(
    () =>
      new Tensor(
        native.adamw([{ parameter: p.id, m: m.id, v: v.id, average: 0, decay: 0, lrScale: 2 }], schedule.id, {
          beta1: 0.5,
          beta2: 0.25,
          eps: 0,
          maxNorm: 1,
        }),
      ),
  )
  expect(await norm2.item()).toBe(0)
  expect(Array.from(await p.floats())).toEqual([0.5, -2.5]) // lr · lrScale · 0.5 / √1
  for (const t of [norm2, p, m, v, schedule]) t.dispose()
})

test('an anchor pulls as the gradient of pull · Σ(θ − anchor)² does, in the norm too', async () => {
  const n = 1000
  const [start, anchor, gradient] = [1, 2, 3].map((seed) => float(normals(seed, n)))
  const run = async (pulled: boolean) => {
    const [p, q] = ['p', 'q'].map((name) => Parameter.named(name, start, [n]))
    p.trainable = q.trainable = true
    const to = Parameter.named('anchor', anchor, [n])
    const optimizer = new AdamW([p, q], { clipNorm: 1, anchor: pulled ? { tensors: new Map([['p', to]]), pull: 0.25 } : undefined })
    const norms: number[] = []
    for (let t = 0; t < 2; t++) {
      const value = await p.floats()
      const total = pulled ? gradient : gradient.map((g, i) => g + 0.5 * (value[i] - anchor[i]))
      const norm2 = await step(() => {
        backward([sum(multiply(p, Tensor.from(total, [n])))]) // q has no gradient, and no anchor
        return optimizer.update(0.01)
      })
      norms.push(await norm2.item())
      norm2.dispose()
    }
    const end = await p.floats()
    expect(await q.floats()).toEqual(start)
    optimizer.dispose()
    for (const t of [p, q, to]) t.dispose()
    return { norms, end }
  }
  const [inside, outside] = [await run(true), await run(false)]
  expect(relativeError(Float64Array.from(inside.end), Float64Array.from(outside.end))).toBeLessThan(1e-5)
  expect(relativeError(Float64Array.from(inside.norms), Float64Array.from(outside.norms))).toBeLessThan(1e-6)
})
