import type { Injection, Tower } from '../../lib/injection/injection.js'
import { Clip } from '../../lib/models/clip.js'
import type { FloatDType } from '../../lib/native.js'
import { MpmNceLoss } from '../../lib/objectives/mpm-nce.js'
import { multiply, sum } from '../../lib/ops.js'
import { backward, Parameter, scope, step, Tensor } from '../../lib/tensor.js'
import { Case, fixture, relativeError } from '../fixture.js'

// The seam's extra keys and values through a whole CLIP, against float64: DIKI's branch in the first two blocks of both
// towers, banks of three tasks, a task and a weight for each sample.
const CASES = [
  ['even', 'clip-quick-gelu'],
  ['odd', 'clip-quick-gelu'],
  ['odd', 'clip-gelu'],
] as const

async function setup(shape: string, model: string, dtype: FloatDType) {
  const want = await Case.open(fixture(shape, `${model}-residual-attention`))
  const clip = await Clip.load(fixture(shape, model), { dtype })
  const banks = new Map<string, Parameter>()
  for (const tower of ['vision', 'text'] as const)
    for (const layer of [0, 1])
      for (const kind of ['keys', 'values']) {
        const name = `${tower}.${layer}.${kind}`
        const bank = Parameter.named(name, want.get(`bank.${name}`), want.shape(`bank.${name}`))
        bank.trainable = true
        banks.set(name, bank)
      }
  const objective = new MpmNceLoss({ temperature: 0.01, margin: 0, epsilon: 0 })
  const forward = () => {
    const index = Tensor.from(want.get('task'), want.shape('task'), 'i32')
    const weight = Tensor.from(want.get('weight'), want.shape('weight'))
    const bank = (tower: Tower, layer: number, kind: string) => banks.get(`${tower}.${layer}.${kind}`) as Tensor
    const injection: Injection = {
      layer: (tower, layer) =>
        layer < 2 ? { keyValues: { keys: bank(tower, layer, 'keys'), values: bank(tower, layer, 'values'), index, weight } } : undefined,
    }
    const image = clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), injection)
    const text = clip.encodeText(want.ids(), injection)
    const labels = Tensor.from(
      Int32Array.from({ length: want.shape('task')[0] }, (_, i) => i),
      want.shape('task'),
      'i32',
    )
    return { image, text, loss: objective.loss(image, text, labels) }
  }
  const gradients = async () => {
    const pairs: [Float32Array, Float32Array][] = []
    for (const [name, bank] of banks) pairs.push([await (bank.gradient as Tensor).floats(), want.get(`gradient.${name}`)])
    return pairs
  }
  const dispose = () => {
    for (const bank of banks.values()) bank.dispose()
    clip.dispose()
  }
  return { want, clip, banks, forward, gradients, dispose }
}

describe.each(CASES)('extra keys and values in %s %s', (shape, model) => {
  test('features, loss and the gradient of every bank', async () => {
    const { want, forward, gradients, dispose } = await setup(shape, model, 'f32')
    const { image, text, loss } = await step(() => {
      const result = forward()
      backward(result.loss)
      return result
    })
    expect(relativeError([await image.floats(), want.get('image_features')])).toBeLessThan(1e-5)
    expect(relativeError([await text.floats(), want.get('text_features')])).toBeLessThan(1e-5)
    expect(relativeError([await loss.floats(), want.get('loss')])).toBeLessThan(1e-5)
    for (const pair of await gradients()) expect(relativeError(pair)).toBeLessThan(3e-5)
    for (const t of [image, text, loss]) t.dispose()
    dispose()
  })

  test('bf16 errs at most 1.2 times what PyTorch autocast does', async () => {
    const { want, forward, gradients, dispose } = await setup(shape, model, 'bf16')
    const { image, text } = await step(() => {
      const { image, text, loss } = forward()
      backward(loss)
      return { image, text }
    })
    const [features, gradient] = want.get('bf16_error')
    const got = relativeError([await image.floats(), want.get('image_features')], [await text.floats(), want.get('text_features')])
    expect(got).toBeLessThan(1.2 * features)
    expect(relativeError(...(await gradients()))).toBeLessThan(1.2 * gradient)
    for (const t of [image, text]) t.dispose()
    dispose()
  })

  test('zero values: the features of the model without them, bit by bit, in every block', async () => {
    const { want, clip, banks, forward, dispose } = await setup(shape, model, 'f32')
    for (const [name, bank] of banks) if (name.endsWith('values')) bank.write(new Float32Array(bank.count))
    const { image, text } = scope(() => {
      const { image, text } = forward()
      return { image, text }
    })
    const [plainImage, plainText] = scope(() => [
      clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels'))),
      clip.encodeText(want.ids()),
    ])
    expect(await image.floats()).toEqual(await plainImage.floats())
    expect(await text.floats()).toEqual(await plainText.floats())
    for (const t of [image, text, plainImage, plainText]) t.dispose()
    dispose()
  })
})

test.each(['separate', 'joint'] as const)('the last block for one row a sample: as for all rows (%s)', async (softmax) => {
  const want = await Case.open(fixture('odd', 'clip-gelu-residual-attention'))
  const run = async (lastBlock: 'pooled' | 'all') => {
    const clip = await Clip.load(fixture('odd', 'clip-gelu'), { dtype: 'f32', lastBlock })
    const banks = (['vision', 'text'] as const).map((tower) => {
      const [keys, values] = ['keys', 'values'].map((kind) =>
        Parameter.named(kind, want.get(`bank.${tower}.0.${kind}`), want.shape(`bank.${tower}.0.${kind}`)),
      )
      keys.trainable = values.trainable = true
      return { keys, values }
    })
    const [image, text] = await step(() => {
      const index = Tensor.from(want.get('task'), want.shape('task'), 'i32')
      const injection: Injection = {
        layer: (tower) => ({ keyValues: { ...banks[tower === 'vision' ? 0 : 1], index, softmax } }), // in every block
      }
      const image = clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), injection)
      const text = clip.encodeText(want.ids(), injection)
      backward([sum(multiply(image, image)), sum(multiply(text, text))])
      return [image, text]
    })
    const results = [await image.floats(), await text.floats()]
    for (const { keys, values } of banks) for (const bank of [keys, values]) results.push(await (bank.gradient as Tensor).floats())
    for (const t of [image, text, ...banks.flatMap(({ keys, values }) => [keys, values])]) t.dispose()
    clip.dispose()
    return results
  }
  const [pooled, all] = [await run('pooled'), await run('all')]
  pooled.forEach((result, i) => {
    expect(relativeError([result, all[i]])).toBeLessThan(i < 2 ? 1e-5 : 3e-5)
  })
})
