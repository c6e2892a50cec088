import { distillation } from '../../lib/objectives/distillation.js'
import { backward, Parameter, scope, Tensor } from '../../lib/tensor.js'

const P = 6
const [images, texts] = [4, 3]
const S = Math.log(7)

/** Rows of length 1. */
function rows(count: number, seed: number): Float32Array {
  const out = new Float32Array(count * P)
  for (let i = 0; i < count; i++) {
    const row = Array.from({ length: P }, (_, k) => Math.sin(seed + 1.7 * i * P + 3.1 * k * k))
    out.set(
      row.map((v) => v / Math.hypot(...row)),
      i * P,
    )
  }
  return out
}

const softmax = (z: number[]) => {
  const most = Math.max(...z)
  const e = z.map((v) => Math.exp(v - most))
  const total = e.reduce((a, b) => a + b)
  return e.map((v) => v / total)
}

/** T² CE(softmax(s Z'/T), softmax(s Z/T)) with rows of `a` and columns of `b`, mean over rows, in doubles. */
function expected(a: Float32Array[], b: Float32Array[], temperature: number): number {
  const logits = (x: Float32Array, y: Float32Array) =>
    Array.from({ length: x.length / P }, (_, i) =>
      Array.from({ length: y.length / P }, (_, j) => {
        let dot = 0
        for (let k = 0; k < P; k++) dot += x[i * P + k] * y[j * P + k]
        return (Math.exp(S) * dot) / temperature
      }),
    )
  const [student, teacher] = [logits(a[0], b[0]), logits(a[1], b[1])]
  const each = student.map((z, i) => {
    const q = softmax(teacher[i])
    return -softmax(z).reduce((sum, p, j) => sum + q[j] * Math.log(p), 0)
  })
  return (temperature ** 2 * each.reduce((x, y) => x + y)) / each.length
}

const tensor = (values: Float32Array) => Tensor.from(values, [values.length / P, P])

function lossOf(values: { x: Float32Array; y: Float32Array; tx: Float32Array; ty: Float32Array }, options = {}) {
  const image = Parameter.named('x', values.x, [images, P])
  const text = Parameter.named('y', values.y, [texts, P])
  image.trainable = true
  text.trainable = true
  const logScale = Tensor.scalar(S)
  const loss = scope(() => {
    const out = distillation({ image, text }, { image: tensor(values.tx), text: tensor(values.ty) }, { logScale, ...options })
    backward(out)
    return out
  })
  return { loss, image, text }
}

const values = { x: rows(images, 0.1), y: rows(texts, 2), tx: rows(images, 4.4), ty: rows(texts, 8.8) }

test.each([
  [{}, 2, 1, 1],
  [{ temperature: 1, textWeight: 0 }, 1, 1, 0],
  [{ temperature: 3, imageWeight: 0.5, textWeight: 2 }, 3, 0.5, 2],
  [{ imageWeight: 0 }, 2, 0, 1],
])('the formula: %j', async (options, temperature, imageWeight, textWeight) => {
  const { loss } = lossOf(values, options)
  const [x, y] = [
    [values.x, values.tx],
    [values.y, values.ty],
  ]
  const want = imageWeight * expected(x, y, temperature) + textWeight * expected(y, x, temperature)
  expect(Math.abs((await loss.item()) / want - 1)).toBeLessThan(1e-6)
})

test('a student that says what the teacher says has no gradient, another one has', async () => {
  const same = lossOf({ ...values, tx: values.x, ty: values.y })
  const other = lossOf(values)
  for (const which of ['image', 'text'] as const) {
    const most = async (of: typeof same) => Math.max(...(await (of[which].gradient as Tensor).floats()).map(Math.abs))
    expect(await most(same)).toBeLessThan(1e-6)
    expect(await most(other)).toBeGreaterThan(1e-2)
  }
})

test('nothing to distil is a mistake', () => {
  expect(() => lossOf(values, { imageWeight: 0, textWeight: 0 })).toThrow(expect.objectContaining({ code: 'E_OPTION' }))
})
