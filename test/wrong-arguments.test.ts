/** What a program without types may hand over: every public function answers with an error that says what it expected. */
import { join } from 'node:path'
import { MixedBatch } from '../lib/adapters/mixed-batch.js'
import { guard, type Signatures } from '../lib/arguments/guard.js'
import { text } from '../lib/arguments/kinds.js'
import { SIGNATURES } from '../lib/arguments/signatures.js'
import api from '../lib/checked-api.js'
import * as index from '../lib/index.js'
import { temporaryFolder } from './temporary-folder.js'
import { tinyClip, tinyImages } from './tiny-clip.js'

type Loose = Record<string, (...given: unknown[]) => unknown>
const folder = temporaryFolder()
const loose = api as unknown as Loose
let clip: unknown
let dataset: unknown
let adapter: unknown
let objective: unknown
const gone = join(folder, 'gone')
const image = join(folder, 'photos', 'red', '0.png')
const kept = () => ({ data: dataset, method: adapter, objective, epochs: 1, batch: 1 })

beforeAll(async () => {
  clip = await api.Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
  dataset = await api.openDataset(await tinyImages(join(folder, 'photos'), ['red', 'green'], 2))
  adapter = new api.RAdapter(clip as never, { rank: 2 })
  objective = new api.MpmNceLoss()
})

const classOf = (name: string) => (name === 'MixedBatch' ? MixedBatch : loose[name]) as unknown as Loose & { prototype: Loose }
const isStatic = (key: string) => {
  const [name, method] = key.split('.')
  return method === undefined || typeof classOf(name)[method] === 'function'
}

/**
 * Calls by the key of a signature: `classify`, `new Trainer`, `Clip.load`, `Clip.encodeText` (on an object that has nothing but the
 * methods of its class). Generators are asked for their first value.
 */
async function call(key: string, given: readonly unknown[]): Promise<unknown> {
  const [name, method] = key.replace('new ', '').split('.')
  if (key.startsWith('new ')) return Reflect.construct(loose[name], given)
  if (!isStatic(key)) {
    const object = Object.create(classOf(name).prototype)
    return Object.getOwnPropertyDescriptor(classOf(name).prototype, method)?.set
      ? Reflect.set(object, method, given[0])
      : object[method](...given)
  }
  const out = await (method === undefined ? loose[name](...given) : classOf(name)[method](...given))
  return typeof (out as { next?: unknown } | undefined)?.next === 'function' ? (out as AsyncGenerator).next() : out
}

const saidBy = (key: string, given: readonly unknown[]) =>
  call(key, given).then(
    () => `${key} took it`,
    (error) => (api.isCambiumError(error) ? `${error.code} ${error.message}` : `bare ${error}`),
  )

test('every public function that takes arguments has its signature', () => {
  const free = ['isCambiumError', 'CambiumError', 'defaultDtype', 'probeCuda', 'synchronize', 'availableMemory', 'FeatureCache']
  const named = new Set(Object.keys(SIGNATURES).map((key) => key.replace('new ', '').split('.')[0]))
  const functions = Object.entries(index).flatMap(([name, value]) => (typeof value === 'function' ? [name] : []))
  expect(functions.filter((name) => !named.has(name)).sort()).toEqual(free.sort())
  expect([...named].filter((name) => !functions.includes(name))).toEqual(['MixedBatch'])
})

const taking = Object.keys(SIGNATURES).filter((key) => Object.keys(SIGNATURES[key]).length > 0)

test.each(taking)('%s without arguments, and with a wrong one', async (key) => {
  const [[first, schema]] = Object.entries(SIGNATURES[key])
  const none = await saidBy(key, [])
  if (!schema.safeParse(undefined).success) expect(none).toMatch(/^E_(ARGUMENT|OPTION) .+: expected .+, got /)
  const wrong = await saidBy(key, [Symbol('wrong')])
  expect(wrong.startsWith(`E_ARGUMENT ${key}: ${first}`)).toBe(true)
  expect(wrong).toMatch(/: expected .+, got Symbol\(wrong\)$/)
})

test.each<[string, () => unknown[], string]>([
  ['Clip.load', () => [gone, { dtyp: 'f32' }], 'E_OPTION Clip.load: expected known names, got dtyp; did you mean dtype?'],
  ['Clip.load', () => [gone, { dtype: 'f64' }], 'E_OPTION Clip.load: dtype: expected f32 or bf16, got "f64"'],
  ['Clip.load', () => [''], 'E_ARGUMENT Clip.load: folder: expected a path, got ""'],
  ['classify', () => [{}, [], []], 'E_ARGUMENT classify: clip: expected a Clip, as Clip.load gives one, got {}'],
  ['classify', () => [clip, image, ['a']], `E_ARGUMENT classify: images: expected a list, got ${JSON.stringify(image)}`],
  ['classify', () => [clip, [3], ['a']], 'E_ARGUMENT classify: images.0: expected an image: a path, or {bytes, name}, got 3'],
  ['classify', () => [clip, [image], 'a'], 'E_ARGUMENT classify: labels: expected a list, got "a"'],
  ['classify', () => [clip, [image], ['a', 3]], 'E_ARGUMENT classify: labels.1: expected a text, got 3'],
  ['classify', () => [clip, [image], ['a'], { batch: 0 }], 'E_OPTION classify: batch: expected a whole number of at least 1, got 0'],
  ['classify', () => [clip, [image], ['a'], { templates: 'a {}.' }], 'E_OPTION classify: templates: expected a list, got "a {}."'],
  ['classify', () => [clip, [image], ['a'], { signal: 1 }], 'E_OPTION classify: signal: expected an AbortSignal, got 1'],
  ['classify', () => [clip, [image], ['a'], 5], 'E_ARGUMENT classify: options: expected a map, got 5'],
  [
    'encodeStream',
    () => [clip, [image]],
    `E_ARGUMENT items: expected each to be {image: path or {bytes, name}} or {text}, got ${JSON.stringify(image)}`,
  ],
  ['encodeTexts', () => [clip, 'a cat'], 'E_ARGUMENT encodeTexts: texts: expected a list, got "a cat"'],
  [
    'encodeImages',
    () => [clip, [image]],
    `E_ARGUMENT encodeImages: dataset: expected a Dataset, as openDataset gives one, got ${JSON.stringify([image]).slice(0, 77)}${JSON.stringify([image]).length > 80 ? '…' : JSON.stringify([image]).slice(77)}`,
  ],
  [
    'classHead',
    () => [clip, ['a'], ['{}.'], 7],
    'E_ARGUMENT classHead: injection: expected an injection: a method, or what its at() gives, got 7',
  ],
  [
    'new RAdapter',
    () => [clip, { lerningRate: 1 }],
    'E_OPTION new RAdapter: expected known names, got lerningRate; known are rank, drop, dropBy, scale, seed',
  ],
  ['new RAdapter', () => [gone], `E_ARGUMENT new RAdapter: clip: expected a Clip, as Clip.load gives one, got ${JSON.stringify(gone)}`],
  ['Lora.create', () => [clip, { r: '8' }], 'E_OPTION Lora.create: r: expected a whole number of at least 1, got "8"'],
  ['new MpmNceLoss', () => [{ temprature: 1 }], 'E_OPTION new MpmNceLoss: expected known names, got temprature; did you mean temperature?'],
  ['new InfoNceLoss', () => [0.07], 'E_ARGUMENT new InfoNceLoss: logitScale: expected a Parameter, got 0.07'],
  [
    'new Trainer',
    () => [clip, { ...kept(), data: image }],
    `E_OPTION new Trainer: data: expected a Dataset, as openDataset gives one, got ${JSON.stringify(image)}`,
  ],
  [
    'new Trainer',
    () => [clip, { ...kept(), method: 'lora' }],
    'E_OPTION new Trainer: method: expected a method, such as an RAdapter, got "lora"',
  ],
  [
    'new Trainer',
    () => [clip, { ...kept(), lerningRate: 1 }],
    'E_OPTION new Trainer: expected known names, got lerningRate; known are method, objective, data, epochs, batch,',
  ],
  [
    'new Trainer',
    () => [clip, { ...kept(), augment: { scal: [1, 1] } }],
    'E_OPTION new Trainer: augment: expected known names, got scal; did you mean scale?',
  ],
  [
    'fineTune',
    () => [{ model: gone, data: gone, out: gone, method: 'lora', lora: { rank: 3 } }],
    'E_OPTION fineTune: lora: expected known names, got rank; known are alpha,',
  ],
  ['fineTune', () => [{ model: gone, data: gone, out: gone }], 'E_OPTION fineTune: method: expected a value, got none'],
  [
    'fineTune',
    () => [{ model: gone, data: gone, out: gone, method: 'lora', epochs: '3' }],
    'E_OPTION fineTune: epochs: expected a whole number of at least 1, got "3"',
  ],
  [
    'evaluate',
    () => [clip, [{ name: 'a' }]],
    'E_ARGUMENT evaluate: sets.0.data: expected a Dataset, as openDataset gives one, got nothing',
  ],
  ['evaluateModel', () => [{ model: gone, sets: ['photos'] }], 'E_OPTION evaluateModel: sets.0: expected a map, got "photos"'],
  [
    'openDataset',
    () => [gone, { template: ['a {}.'] }],
    'E_OPTION openDataset: expected known names, got template; did you mean templates?',
  ],
  ['new Dataset', () => [['a.png']], 'E_ARGUMENT new Dataset: samples: expected a list of samples, {id, image, …}, got ["a.png"]'],
  [
    'mergeFolder',
    () => [{ model: gone, adapter: [{ path: gone, wieght: 1 }], out: gone }],
    'E_OPTION mergeFolder: adapter.0: expected known names, got wieght; did you mean weight?',
  ],
  ['runRecipe', () => [{ method: 'ties', models: 3 }], 'E_ARGUMENT runRecipe: recipe'],
  ['merge', () => [clip, {}], 'E_ARGUMENT merge: adapter: expected an RAdapter, got {}'],
  ['Tensor.from', () => [[1, 2], [2]], 'E_ARGUMENT Tensor.from: data: expected a typed array or an ArrayBuffer, got [1,2]'],
  ['Tensor.from', () => [new Float32Array(2), 2], 'E_ARGUMENT Tensor.from: shape: expected a list, got 2'],
  ['Tensor.from', () => [new Float32Array(2), [-2]], 'E_ARGUMENT Tensor.from: shape.0: expected a whole number of at least 0, got -2'],
  ['Tensor.from', () => [new Float32Array(2), [3]], 'E_SHAPE '],
  [
    'Tensor.from',
    () => [new Float32Array(2), [2], 'f64'],
    'E_ARGUMENT Tensor.from: dtype: expected f32, bf16, f16, i32, i64 or u8, got "f64"',
  ],
  ['scope', () => [Promise.resolve()], 'E_ARGUMENT scope: fn: expected a function, got a Promise'],
  [
    'runLearn',
    () => [{ model: gone, out: gone, stream: { tasks: [{ name: 'a' }] }, methods: [] }],
    'E_OPTION runLearn: stream.tasks.0.train: expected a value, got none',
  ],
  ['createLearner', () => [clip, 'diki', {}], 'E_ARGUMENT createLearner: options: expected a value, got none'],
])('%s: %#', async (key, given, message) => {
  expect((await saidBy(key, given())).slice(0, message.length)).toBe(message)
})

test.each<[string, (clip: Loose) => unknown, string]>([
  [
    'a number',
    (own) => own.encodeText(3),
    'E_ARGUMENT Clip.encodeText: tokens: expected a list of token ids for each text, as tokenize gives one, got 3',
  ],
  [
    'a text in the place of its tokens',
    (own) => own.encodeText(['a cat']),
    'E_ARGUMENT Clip.encodeText: tokens: expected a list of token ids for each text, as tokenize gives one, got ["a cat"]',
  ],
  ['a text', (own) => own.tokenize('a cat'), 'E_ARGUMENT Clip.tokenize: texts: expected a list, got "a cat"'],
  ['an image', (own) => own.encodeImage(image), `E_ARGUMENT Clip.encodeImage: pixels: expected a Tensor, got ${JSON.stringify(image)}`],
  ['a typo', (own) => own.save(gone, { dtpe: 'f16' }), 'E_OPTION Clip.save: expected known names, got dtpe; did you mean dtype?'],
])('a method of an object: %s', async (_, use, message) => {
  const said = await Promise.resolve()
    .then(() => use(clip as Loose))
    .then(
      () => 'took it',
      (error) => `${error.code} ${error.message}`,
    )
  expect(said).toBe(message)
})

test('methods that hand a batch on check what they are given too', async () => {
  const data = dataset as InstanceType<typeof api.Dataset>
  expect(() => data.subset(3 as never)).toThrow('Dataset.subset: indices: expected a list, an iterable or an async iterable, got 3')
  const folderSet = await api.ImageFolder.open(join(folder, 'photos'))
  expect(() => folderSet.subset('0' as never)).toThrow('Dataset.subset: indices: ')
  expect(() => data.subset([0, data.length])).toThrow(`subset: expected indices below ${data.length}, got ${data.length}`)
  const parameter = api.Parameter.named('p', null, [2])
  expect(() => Reflect.set(parameter, 'trainable', 'yes')).toThrow('Parameter.trainable: on: expected true or false, got "yes"')
  parameter.trainable = true
  expect([parameter.trainable, parameter.count]).toEqual([true, 2])
  parameter.dispose()
})

test('after dispose() every method says so, twice is once, and other objects go on', async () => {
  const make: Record<string, () => Promise<object> | object> = {
    Clip: () => api.Clip.load(join(folder, 'clip'), { dtype: 'f32' }),
    RAdapter: () => new api.RAdapter(clip as never, { rank: 2 }),
    Lora: () => api.Lora.create(clip as never),
    Diki: () => new api.Diki(clip as never, { depth: 1 }),
    DikiStack: () => new api.DikiStack([new api.Diki(clip as never, { depth: 1 })]),
    AdapterSet: () => new api.AdapterSet(clip as never),
    AdamW: () => new api.AdamW([api.Parameter.named('p', null, [1])]),
    Sgd: () => new api.Sgd([api.Parameter.named('p', null, [1])]),
    Trainer: () => new api.Trainer(clip as never, kept() as never),
  }
  const disposable = Object.keys(SIGNATURES).flatMap((key) => (key.endsWith('.dispose') ? [key.split('.')[0]] : []))
  expect(disposable.sort()).toEqual(Object.keys(make).sort())
  for (const [name, one] of Object.entries(make)) {
    const object = (await one()) as Loose
    object.dispose()
    object.dispose()
    const methods = Object.keys(SIGNATURES).filter((key) => key.startsWith(`${name}.`) && !isStatic(key) && !key.endsWith('.dispose'))
    expect(methods.length).toBeGreaterThan(0)
    for (const key of methods) {
      const said = await Promise.resolve()
        .then(() => object[key.split('.')[1]]())
        .catch((error) => `${error.code} ${error.message}`)
      expect(said).toMatch(new RegExp(`^E_DISPOSED ${key}: expected one in use, got an? ${name} that was disposed`))
    }
  }
  expect(() => (clip as Loose).tokenize(['a cat'])).not.toThrow()
})

test('what is right passes: the same functions, classes that are their own, undefined options', async () => {
  const found = await api.classify(clip as never, [image], ['red', 'green'], { batch: undefined, ['lerningRate' as 'batch']: undefined })
  expect(found).toHaveLength(1)
  expect(adapter).toBeInstanceOf(api.RAdapter)
  expect(adapter).toBeInstanceOf(index.RAdapter)
  class Own extends api.RAdapter {}
  const own = new Own(clip as never, { rank: 2 })
  expect([own instanceof Own, own instanceof api.RAdapter, api.Trainer.name, api.classify.name]).toEqual([
    true,
    true,
    'Trainer',
    'classify',
  ])
  own.dispose()
  expect(() => own.draw(0, 0)).toThrow('RAdapter.draw: expected one in use, got an Own that was disposed (dispose())')
  expect(Object.keys(api).sort()).toEqual(Object.keys(index).sort())
})

test('async functions reject, others throw; an option is told from an argument', async () => {
  const twice = { one: async (name: string) => name, two: (name: string) => name }
  const signatures: Signatures = { one: { name: text }, two: { name: text } }
  const both = guard(twice, signatures) as unknown as Record<'one' | 'two', (name: unknown) => unknown>
  await expect(both.one(1)).rejects.toMatchObject({ code: 'E_ARGUMENT', message: 'one: name: expected a text, got 1' })
  expect(() => both.two(1)).toThrow('two: name: expected a text, got 1')
  expect(both.two('a')).toBe('a')
})
