import { ClassCrossEntropy } from '../../lib/objectives/cross-entropy.js'
import { GroupedCrossEntropy } from '../../lib/objectives/grouped-cross-entropy.js'
import type { Objective } from '../../lib/objectives/objective.js'
import { backward, Parameter, scope, Tensor } from '../../lib/tensor.js'
import { relativeError } from '../fixture.js'

const P = 5
const S = Math.log(9)
const random = (count: number, seed: number) => Float32Array.from({ length: count * P }, (_, i) => Math.sin(seed + 2.3 * i + 0.37 * i * i))

interface Case {
  readonly image: Float32Array
  readonly text: Float32Array
  readonly labels: readonly number[]
}

async function run(make: (logScale: Parameter) => Objective, { image, text, labels }: Case) {
  const [x, y] = [Parameter.named('x', image, [image.length / P, P]), Parameter.named('y', text, [text.length / P, P])]
  x.trainable = true
  y.trainable = true
  const objective = make(Parameter.named('scale', Float32Array.of(S), [1]))
  const loss = scope(() => {
    const out = objective.loss(x, y, Tensor.from(Int32Array.from(labels), [labels.length], 'i32'))
    backward(out)
    return out
  })
  const read = (p: Parameter) => (p.gradient as Tensor).floats()
  return { loss: await loss.item(), image: await read(x), text: await read(y) }
}

const image = random(4, 0.5)
const text = random(5, 3)
// two sets: classes 0 and 1, classes 2, 3 and 4
const groups = [2, 3]
const labels = [0, 3, 1, 4]

test.each([0, 0.2])('each image among the classes of its own set, smoothing %d', async (smoothing) => {
  const got = await run((s) => new GroupedCrossEntropy(s, groups, { smoothing }), { image, text, labels })
  const part = (row: number, first: number, count: number) =>
    run((s) => new ClassCrossEntropy(s, { smoothing }), {
      image: image.slice(row * P, (row + 1) * P),
      text: text.slice(first * P, (first + count) * P),
      labels: [labels[row] - first],
    })
  const parts = [await part(0, 0, 2), await part(1, 2, 3), await part(2, 0, 2), await part(3, 2, 3)]
  const loss = parts.reduce((sum, { loss }) => sum + loss, 0) / 4
  expect(relativeError([[got.loss], [loss]])).toBeLessThan(1e-6)
  const images = Float32Array.from(parts.flatMap((p) => [...p.image.map((v) => v / 4)]))
  expect(relativeError([got.image, images])).toBeLessThan(3e-6)
  const texts = new Float32Array(5 * P)
  for (const [row, first] of [0, 2, 0, 2].entries()) for (const [k, v] of parts[row].text.entries()) texts[first * P + k] += v / 4
  expect(relativeError([got.text, texts])).toBeLessThan(3e-6)
})

test('classes of sets without an image in the batch get no gradient at all', async () => {
  const got = await run((s) => new GroupedCrossEntropy(s, groups, { smoothing: 0.1 }), { image, text, labels: [0, 1, 1, 0] })
  expect([...got.text.slice(2 * P)].every((v) => v === 0)).toBe(true)
  expect([...got.text.slice(0, 2 * P)].some((v) => v !== 0)).toBe(true)
})

test('one set is plain cross-entropy', async () => {
  const grouped = await run((s) => new GroupedCrossEntropy(s, [5]), { image, text, labels })
  const plain = await run((s) => new ClassCrossEntropy(s), { image, text, labels })
  expect(grouped).toEqual(plain)
})

test('smoothing outside [0, 1) is refused', () => {
  const make = () => new GroupedCrossEntropy(Parameter.named('s', null, [1]), [2], { smoothing: 1 })
  expect(make).toThrow(expect.objectContaining({ code: 'E_OPTION', message: expect.stringContaining('smoothing') }))
})
