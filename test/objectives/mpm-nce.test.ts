import { InfoNceLoss } from '../../lib/objectives/info-nce.js'
import { MpmNceLoss } from '../../lib/objectives/mpm-nce.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'
import { Case, fixture, relativeError } from '../fixture.js'

const FORMS = {
  default: {},
  plain: { margin: 0, epsilon: 0 },
  hot: { temperature: 0.001, margin: 0.3, epsilon: 0.1 },
}

async function run(image: Float32Array, text: Float32Array, width: number, labels: Int32Array, options: object) {
  const shape = [labels.length, width]
  const [f, g] = [Parameter.named('image', image, shape), Parameter.named('text', text, shape)]
  f.trainable = g.trainable = true
  const { loss } = await step(() => {
    const result = new MpmNceLoss(options).loss(f, g, Tensor.from(labels, [labels.length], 'i32'))
    backward(result)
    return { loss: result }
  })
  return { loss: await loss.item(), gradients: [await (f.gradient as Tensor).floats(), await (g.gradient as Tensor).floats()] }
}

describe.each(['even', 'odd'])('MPM-NCE, %s', (shape) => {
  test.each(Object.entries(FORMS))('the form %s agrees with float64', async (form, options) => {
    const want = await Case.open(fixture(shape, 'mpm-nce'))
    const labellings = [...want.values.keys()].flatMap((key) => (key.endsWith('.labels') ? [key.split('.')[0]] : []))
    expect(labellings).toEqual(expect.arrayContaining(['mixed', 'one', 'pair', 'unique']))
    for (const name of labellings) {
      const { loss, gradients } = await run(
        want.get(`${name}.image`),
        want.get(`${name}.text`),
        want.shape(`${name}.image`)[1],
        new Int32Array(want.get(`${name}.labels`)),
        options,
      )
      expect(relativeError([[loss], want.get(`${name}.${form}.loss`)])).toBeLessThan(1e-5)
      expect(relativeError([gradients[0], want.get(`${name}.${form}.gradient_image`)])).toBeLessThan(3e-5)
      expect(relativeError([gradients[1], want.get(`${name}.${form}.gradient_text`)])).toBeLessThan(3e-5)
    }
  })
})

const values = (count: number, seed: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.7 + seed))

test('one class only: finite, and ε has nobody to give to', async () => {
  const { loss, gradients } = await run(values(12, 1), values(12, 2), 3, Int32Array.of(5, 5, 5, 5), {})
  expect(Number.isFinite(loss)).toBe(true)
  expect(gradients.every((g) => g.every(Number.isFinite))).toBe(true)
  const plain = await run(values(12, 1), values(12, 2), 3, Int32Array.of(5, 5, 5, 5), { epsilon: 0, margin: 0 })
  expect(loss).toBeCloseTo(plain.loss, 5)
})

test('unique labels without margin and smoothing are InfoNCE', async () => {
  const { loss } = await run(values(15, 3), values(15, 4), 3, Int32Array.of(4, 9, 2, 7, 1), { margin: 0, epsilon: 0 })
  const logitScale = Parameter.named('logit_scale', Float32Array.of(Math.log(100)), [1])
  const { info } = await step(() => ({
    info: new InfoNceLoss(logitScale).loss(
      Tensor.from(values(15, 3), [5, 3]),
      Tensor.from(values(15, 4), [5, 3]),
      Tensor.zeros([5], 'i32'),
    ),
  }))
  expect(await info.item()).toBeCloseTo(loss, 4)
})

test('the order of the pairs changes nothing', async () => {
  const [image, text, labels] = [values(12, 5), values(12, 6), Int32Array.of(1, 1, 2, 3)]
  const turn = (a: Float32Array) => Float32Array.from([...a.subarray(3), ...a.subarray(0, 3)])
  const [a, b] = [await run(image, text, 3, labels, {}), await run(turn(image), turn(text), 3, Int32Array.of(1, 2, 3, 1), {})]
  expect(b.loss).toBeCloseTo(a.loss, 5)
})
