import type { Injection } from '../../lib/injection/injection.js'
import { Diki, DikiStack } from '../../lib/methods/diki.js'
import { Clip } from '../../lib/models/clip.js'
import { type FloatDType, native } from '../../lib/native.js'
import { ClassCrossEntropy } from '../../lib/objectives/cross-entropy.js'
import { AdamW } from '../../lib/optim/adamw.js'
import type { Optimizer } from '../../lib/optim/optimizer.js'
import { Sgd } from '../../lib/optim/sgd.js'
import { backward, noGradient, type Parameter, scope, step, Tensor } from '../../lib/tensor.js'
import { Case, fixture, relativeError } from '../fixture.js'

const OPTIONS = { depth: 2, length: 5 }

async function setup(dtype: FloatDType = 'f32', shape = 'odd', model = 'clip-quick-gelu') {
  const clip = await Clip.load(fixture(shape, model), { dtype })
  const data = await Case.open(fixture(shape, model))
  const pixels = () => Tensor.from(data.get('pixels'), data.shape('pixels'))
  const count = data.shape('pixels')[0]
  const features = async (image?: Injection | (() => Injection), text?: Injection) => {
    const [a, b] = scope(() =>
      noGradient(() => [clip.encodeImage(pixels(), typeof image === 'function' ? image() : image), clip.encodeText(data.ids(), text)]),
    )
    const rows = [await a.floats(), await b.floats()]
    a.dispose()
    b.dispose()
    return rows
  }
  /** a task for each image, and a weight */
  const at = (stack: DikiStack, index: number[], weight: number[]) => () =>
    stack.at(Tensor.from(Int32Array.from(index), [count], 'i32'), Tensor.from(Float32Array.from(weight), [count]))
  return { clip, data, pixels, count, features, at }
}

/** Values as training might leave them, in place of zeros. */
function fill(bank: Diki, seed: number): void {
  for (const [i, { values }] of [...bank.banks.values()].entries())
    values.write(native.random(seed, i, 1, values.count, 0).map((u) => u - 0.5))
}
const bytesOf = async (parameters: readonly Parameter[]) => Promise.all(parameters.map((p) => p.floats()))
const cycle = (count: number, values: readonly number[]) => Array.from({ length: count }, (_, i) => values[i % values.length])

test('parameters of ViT-B/16: 163,840 a task', () => {
  const tower = (hiddenSize: number) => ({ hiddenSize, numHiddenLayers: 12 })
  const bank = new Diki({ config: { vision: tower(768), text: tower(512) } } as unknown as Clip, {}, 3)
  expect(bank.parameters.reduce((sum, p) => sum + p.count, 0)).toBe(163_840)
  expect(bank.parameters[0].name).toBe('task-3.vision.0.keys')
  expect(bank.parameters[0].shape).toEqual([1, 8, 768])
  bank.dispose()
})

test('keys are uniform in (−1, 1), another draw for each task, layer and seed; the same for the same', async () => {
  const { clip } = await setup()
  const keys = async (options: object, task: number, bank: string) => {
    const diki = new Diki(clip, options, task)
    const own = diki.banks.get(bank)
    if (!own) throw new Error(`no bank ${bank}`)
    const drawn = await own.keys.floats()
    expect((await own.values.floats()).every((v) => v === 0)).toBe(true)
    diki.dispose()
    return drawn
  }
  const first = await keys(OPTIONS, 0, 'vision.0')
  expect(Math.max(...first.map(Math.abs))).toBeLessThan(1)
  expect(Math.max(...first)).toBeGreaterThan(0.95)
  expect(Math.min(...first)).toBeLessThan(-0.95)
  expect(await keys(OPTIONS, 0, 'vision.0')).toEqual(first)
  expect(await keys({ ...OPTIONS, towers: ['vision'] }, 0, 'vision.0')).toEqual(first)
  for (const other of [keys(OPTIONS, 1, 'vision.0'), keys({ ...OPTIONS, seed: 1 }, 0, 'vision.0')])
    expect((await other)[0]).not.toBe(first[0])
  expect((await keys(OPTIONS, 0, 'text.0'))[0]).not.toBe(first[0])
})

describe.each<FloatDType>(['f32', 'bf16'])('in %s', (dtype) => {
  test('a new bank is the pretrained model to the bit, for any task and weight', async () => {
    const { clip, features, at, count } = await setup(dtype)
    const banks = [0, 1, 2].map((t) => new Diki(clip, OPTIONS, t))
    const stack = new DikiStack(banks)
    const frozen = await features()
    expect(await features(banks[1], banks[1])).toEqual(frozen)
    expect(await features(at(stack, cycle(count, [2, 0, 1]), cycle(count, [1, 0.3, 0, 0.77])))).toEqual([frozen[0], frozen[1]])
    const view = await banks[2].at(0.4)
    expect(await features(view, view)).toEqual(frozen)
  })

  test('weight 0 is the pretrained model to the bit after training too', async () => {
    const { clip, features, at, count } = await setup(dtype)
    const banks = [0, 1].map((t) => new Diki(clip, OPTIONS, t))
    banks.forEach(fill)
    const stack = new DikiStack(banks)
    const frozen = await features()
    const none = await banks[1].at(0)
    expect(await features(at(stack, cycle(count, [0, 1]), cycle(count, [0])), none)).toEqual(frozen)
    const moved = await features(banks[1], banks[1])
    for (const tower of [0, 1]) expect(relativeError([moved[tower], frozen[tower]])).toBeGreaterThan(1e-3)
  })

  test("each sample of a stack is under its own task's bank", async () => {
    const { clip, features, at, count } = await setup(dtype)
    const banks = [0, 1, 2].map((t) => new Diki(clip, OPTIONS, t))
    for (const [t, bank] of banks.entries()) fill(bank, t + 5)
    const stack = new DikiStack(banks)
    const own = await Promise.all(banks.map((bank) => features(bank)))
    const tasks = cycle(count, [2, 0, 1])
    const [image] = await features(at(stack, tasks, cycle(count, [1])))
    const width = image.length / count
    for (const [i, t] of tasks.entries())
      expect(image.subarray(i * width, (i + 1) * width)).toEqual(own[t][0].subarray(i * width, (i + 1) * width))
  })
})

test('a view between the pretrained model and a bank is a weight; the order of slots means nothing', async () => {
  const { clip, features, at, count } = await setup()
  const bank = new Diki(clip, OPTIONS)
  fill(bank, 4)
  const stack = new DikiStack([bank])
  const view = await bank.at(0.35)
  const weighted = await features(at(stack, cycle(count, [0]), cycle(count, [0.35])))
  expect(relativeError([(await features(view))[0], weighted[0]])).toBeLessThan(1e-6)
  view.dispose()
  const before = await features(bank, bank)
  for (const p of bank.parameters) {
    const [values, width] = [await p.floats(), p.shape[2]]
    p.write(values.map((_, at) => values[((Math.floor(at / width) + 2) % p.shape[1]) * width + (at % width)]))
  }
  const after = await features(bank, bank)
  for (const tower of [0, 1]) expect(relativeError([after[tower], before[tower]])).toBeLessThan(1e-6)
})

test.each<[string, (parameters: readonly Parameter[]) => Optimizer]>([
  ['AdamW with decay', (parameters) => new AdamW(parameters, { weightDecay: 0.5, average: true })],
  ['SGD with momentum', (parameters) => new Sgd(parameters, { momentum: 0.9 })],
])("training one task under %s moves no byte of another task's bank, nor of the model", async (_, optimizerOf) => {
  const { clip, data, pixels, count } = await setup()
  const banks = [0, 1, 2].map((t) => new Diki(clip, OPTIONS, t))
  banks.forEach(fill)
  const others = [...banks[0].parameters, ...banks[2].parameters]
  const before = await bytesOf(others)
  const own = await bytesOf(banks[1].parameters)
  const weight = () => clip.weights.get('vision_model.encoder.layers.0.self_attn.qkv_proj.weight').data()
  const frozen = await weight()
  const optimizer = optimizerOf(banks[1].parameters)
  const objective = new ClassCrossEntropy(clip.logitScale)
  for (let i = 0; i < 3; i++)
    await step(() => {
      const labels = Int32Array.from({ length: count }, (_, b) => b)
      backward(
        objective.loss(clip.encodeImage(pixels(), banks[1]), clip.encodeText(data.ids(), banks[1]), Tensor.from(labels, [count], 'i32')),
      )
      optimizer.update(0.1, 0.9)
    })
  expect(await bytesOf(others)).toEqual(before)
  expect(await weight()).toEqual(frozen)
  const now = await bytesOf(banks[1].parameters)
  for (const [i, parameter] of now.entries()) expect(parameter).not.toEqual(own[i])
})

test('options out of range are refused', async () => {
  const { clip } = await setup()
  for (const options of [{ depth: 0 }, { length: 1.5 }, { towers: [] }])
    expect(() => new Diki(clip, options)).toThrow(expect.objectContaining({ code: 'E_OPTION' }))
  const whole = new Diki(clip, { depth: 99 })
  expect(whole.banks.size).toBe(clip.config.vision.numHiddenLayers + clip.config.text.numHiddenLayers)
})
