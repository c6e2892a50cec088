import { native } from '../../lib/native.js'
import { ClassCrossEntropy } from '../../lib/objectives/cross-entropy.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'
import { relativeError } from '../fixture.js'

const [B, C, P] = [5, 3, 7]
const labels = Int32Array.of(0, 2, 1, 2, 2)
const draw = (count: number, site: number) => Float64Array.from(native.random(1, 0, site, count, 0), (u) => u - 0.5)

/** −mean Σ target · log softmax(exp(s) cos(image, text)) in f64. */
function reference(image: Float64Array, text: Float64Array, logScale: number, smoothing: number): number {
  const unit = (x: Float64Array, row: number) => {
    const values = x.subarray(row * P, (row + 1) * P)
    return values.map((v) => v / Math.hypot(...values))
  }
  let loss = 0
  for (let b = 0; b < B; b++) {
    const logits = Array.from({ length: C }, (_, c) => {
      const t = unit(text, c)
      return Math.exp(logScale) * unit(image, b).reduce((sum, v, k) => sum + v * t[k], 0)
    })
    const norm = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0))
    for (let c = 0; c < C; c++) loss -= ((1 - smoothing) * (c === labels[b] ? 1 : 0) + smoothing / C) * (logits[c] - norm)
  }
  return loss / B
}

/** Central differences. */
function derivative(f: (x: Float64Array) => number, x: Float64Array): Float64Array {
  return x.map((_, i) => {
    const moved = (h: number) => f(x.map((v, j) => (j === i ? v + h : v)))
    return (moved(1e-5) - moved(-1e-5)) / 2e-5
  })
}

test.each([0, 0.2])('cross-entropy over class texts with smoothing %d: loss and gradients as in f64', async (smoothing) => {
  const [image, text, logScale] = [draw(B * P, 1), draw(C * P, 2), Math.log(9)]
  const named = (name: string, values: Float64Array, shape: number[]) => {
    const parameter = Parameter.named(name, Float32Array.from(values), shape)
    parameter.trainable = true
    return parameter
  }
  const [x, t, s] = [named('image', image, [B, P]), named('text', text, [C, P]), named('logit_scale', Float64Array.of(logScale), [1])]
  const objective = new ClassCrossEntropy(s, { smoothing })
  expect(objective.parameters).toEqual([s])
  expect(objective.settings).toEqual({ smoothing })
  const loss = await step(() => {
    const value = objective.loss(x, t, Tensor.from(labels, [B], 'i32'))
    backward(value)
    return value
  })
  expect(relativeError([[await loss.item()], [reference(image, text, logScale, smoothing)]])).toBeLessThan(1e-5)
  const gradient = async (p: Parameter) => (p.gradient as Tensor).floats()
  const of = (values: Float64Array, f: (v: Float64Array) => number) => derivative(f, values)
  expect(relativeError([await gradient(x), of(image, (v) => reference(v, text, logScale, smoothing))])).toBeLessThan(3e-5)
  expect(relativeError([await gradient(t), of(text, (v) => reference(image, v, logScale, smoothing))])).toBeLessThan(3e-5)
  const scaled = of(Float64Array.of(logScale), ([v]) => reference(image, text, v, smoothing))
  expect(relativeError([await gradient(s), scaled])).toBeLessThan(3e-5)
})

test('a frozen temperature is no parameter', () => {
  const s = Parameter.named('logit_scale', Float32Array.of(1), [1])
  expect(new ClassCrossEntropy(s).parameters).toEqual([])
})
