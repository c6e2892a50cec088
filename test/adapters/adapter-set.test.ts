/** Several adapters over one model: switched, weighted, mixed, swapped, deleted. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AdapterSet } from '../../lib/adapters/adapter-set.js'
import { fingerprint } from '../../lib/checkpoint/fingerprint.js'
import { type PeftModuleToWrite, writePeftAdapter } from '../../lib/formats/peft-write.js'
import type { Injection } from '../../lib/injection/injection.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { scope, synchronize, Tensor } from '../../lib/tensor.js'
import { classify } from '../../lib/train/classify.js'
import { codeOf } from '../core/code-of.js'
import { Case, fixture, relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const scratch = temporaryFolder()
let clip: Clip
let want: Case
beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(scratch, 'clip')), { dtype: 'f32' })
  want = await Case.open(fixture('even', 'clip-peft-lora'))
})
afterAll(() => clip.dispose())

/** Random factors for some linears, with PEFT's names. */
async function randomAdapter(
  name: string,
  seed: number,
  rank: number,
  linears: readonly string[],
  options: { bias?: boolean; scale?: number } = {},
) {
  const modules: PeftModuleToWrite[] = []
  for (const [tower, width] of [
    ['vision', 128],
    ['text', 96],
  ] as const) {
    for (let layer = 0; layer < 3; layer++) {
      for (const linear of linears) {
        const [out, inner] = linear === 'mlp.fc1' ? [2 * width, width] : linear === 'mlp.fc2' ? [width, 2 * width] : [width, width]
        const random = (count: number, site: number) =>
          native.random(seed, layer * 31 + site, 7 + modules.length, count, 0).map((u) => (u - 0.5) * 0.2 * (options.scale ?? 1))
        const values = (shape: number[], site: number) => {
          const data = random(
            shape.reduce((a, b) => a * b, 1),
            site,
          )
          return { dtype: 'F32' as const, shape, data: new Uint8Array(data.buffer) }
        }
        modules.push({
          module: `${tower}_model.encoder.layers.${layer}.${linear}`,
          rank,
          alpha: 2 * rank,
          a: values([rank, inner], 1),
          b: values([out, rank], 2),
          ...(options.bias && { bias: values([out], 3) }),
        })
      }
    }
  }
  await writePeftAdapter(join(scratch, name), { modules })
  return join(scratch, name)
}

async function features(injection?: Injection): Promise<[Float32Array, Float32Array]> {
  const [image, text] = scope(() => [
    clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), injection),
    clip.encodeText(want.ids(), injection),
  ])
  const out: [Float32Array, Float32Array] = [await image.floats(), await text.floats()]
  image.dispose()
  text.dispose()
  return out
}
const difference = ([a, b]: [Float32Array, Float32Array], [c, d]: [Float32Array, Float32Array]) => relativeError([a, c], [b, d])

describe('switching', () => {
  let set: AdapterSet
  beforeEach(async () => {
    set = new AdapterSet(clip)
    await set.loadAdapter(await randomAdapter('a', 1, 4, ['self_attn.q_proj', 'self_attn.v_proj']))
    await set.loadAdapter(await randomAdapter('b', 2, 6, ['self_attn.v_proj', 'mlp.fc1', 'mlp.fc2'], { bias: true }), { as: 'second' })
  })
  afterEach(() => set.dispose())

  test('the first is active; setAdapter switches; disableAdapter gives the model back', async () => {
    const plain = await features()
    const first = await features(set)
    await set.setAdapter('second')
    const second = await features(set)
    expect(difference(first, plain)).toBeGreaterThan(0.01)
    expect(difference(second, first)).toBeGreaterThan(0.01)
    set.disableAdapter()
    expect(await features(set)).toEqual(plain)
    set.enableAdapter()
    expect(await features(set)).toEqual(second)
    await set.setAdapter([])
    expect(await features(set)).toEqual(plain)
  })

  test('weights add up: the same as one adapter of both, concatenated', async () => {
    await set.setAdapter({ a: 0.7, second: -0.4 })
    const weighted = await features(set)
    set.addWeightedAdapter(['a', 'second'], [0.7, -0.4], 'both')
    await set.setAdapter('both')
    expect(difference(await features(set), weighted)).toBeLessThan(2e-6)
    expect(set.list().find(({ name }) => name === 'both')).toMatchObject({ folder: undefined, ranks: [4, 6, 10], weight: 1, targets: 24 })
    expect(set.list().map(({ name, weight }) => [name, weight])).toEqual([
      ['a', 0],
      ['second', 0],
      ['both', 1],
    ])
  })

  test('a list: targets, parameters, ranks', () => {
    const count = 2 * 3 * 4 * 2 * 128 // q and v, three layers
    expect(set.list()[0]).toEqual({
      name: 'a',
      folder: join(scratch, 'a'),
      kind: 'lora',
      parameters: count + (count / 128) * 96,
      targets: 12,
      changes: [],
      ranks: [4],
      weight: 1,
      warnings: [],
    })
  })

  test('errors have codes', async () => {
    expect(await codeOf(() => set.setAdapter('third'))).toBe('E_NAME')
    expect(await codeOf(() => set.setAdapter({ a: Number.NaN }))).toBe('E_OPTION')
    expect(await codeOf(() => set.deleteAdapter('third'))).toBe('E_NAME')
    expect(await codeOf(() => set.mix(['a', 'third']))).toBe('E_NAME')
    expect(await codeOf(() => set.loadAdapter(join(scratch, 'a')))).toBe('E_DUPLICATE')
    expect(await codeOf(() => set.addWeightedAdapter(['a'], [1], 'second'))).toBe('E_DUPLICATE')
    expect(await codeOf(() => set.addWeightedAdapter(['a', 'second'], [1], 'x'))).toBe('E_OPTION')
    expect(await codeOf(() => set.addWeightedAdapter(['a', 'second'], [1, 1], 'x', 'linear'))).toBe('E_UNSUPPORTED')
    expect(await codeOf(() => set.loadAdapter(fixture('peft', 'vit')))).toBe('E_ADAPTER')
    const mixed = await set.mix(['a', 'second'])
    expect(await codeOf(() => scope(() => mixed.encodeText(want.ids())))).toBe('E_SHAPE')
    expect(set.list()).toHaveLength(2)
    await set.setAdapter('a')
    expect(difference(await features(set), await features())).toBeGreaterThan(0.01)
  })

  test('deleting: the others stay active, the bytes go', async () => {
    await set.setAdapter(['a', 'second'])
    const mixed = await set.mix(['a', 'second', null, 'a'])
    scope(() => mixed.encodeText(want.ids()))
    const before = native.memory().live
    await set.deleteAdapter('a')
    await set.setAdapter('second')
    expect(native.memory().live).toBeLessThan(before)
    const rest = await features(set)
    await set.deleteAdapter('second')
    expect(set.list()).toEqual([])
    expect(await features(set)).toEqual(await features())
    expect(difference(rest, await features())).toBeGreaterThan(0.01)
  })
})

test('linear combination of equal ranks, as PEFT adds factors', async () => {
  const set = new AdapterSet(clip)
  await set.loadAdapter(await randomAdapter('one', 3, 4, ['self_attn.q_proj']))
  set.addWeightedAdapter(['one', 'one'], [0.25, 0.25], 'half', 'linear') // (2 √¼)² = 1: the factors add up to themselves
  const first = await features(set)
  await set.setAdapter('half')
  expect(difference(await features(set), first)).toBeLessThan(2e-6)
  set.dispose()
})

test('a hot swap costs the adapter and frees the old one; another rank, other targets; a broken one changes nothing', async () => {
  const set = new AdapterSet(clip)
  await set.loadAdapter(await randomAdapter('small', 4, 2, ['self_attn.q_proj']), { as: 'current' })
  await synchronize()
  const small = native.memory().live
  const [old] = [await features(set)]
  const large = await randomAdapter('large', 5, 16, ['self_attn.q_proj', 'mlp.fc2'])
  const status = await set.hotswapAdapter(large, 'current')
  expect(status).toMatchObject({ name: 'current', ranks: [16], weight: 1, folder: large })
  const grown = native.memory().live - small
  const bytes = (parameters: number) => 4 * parameters
  const smallBytes = bytes(2 * 2 * 3 * (128 + 96))
  expect(grown).toBeGreaterThan(0.8 * (bytes(status.parameters) - smallBytes))
  expect(grown).toBeLessThan(1.5 * (bytes(status.parameters) - smallBytes) + 64 * 1024)
  expect(difference(await features(set), old)).toBeGreaterThan(0.01)
  mkdirSync(join(scratch, 'broken'))
  writeFileSync(join(scratch, 'broken', 'adapter_config.json'), '{')
  expect(await codeOf(() => set.hotswapAdapter(join(scratch, 'broken'), 'current'))).toBe('E_CONFIG')
  expect(set.list()[0].folder).toBe(large)
  await set.hotswapAdapter(join(scratch, 'small'), 'current')
  expect(native.memory().live).toBe(small)
  expect(await features(set)).toEqual(old)
  const before = native.memory().live
  set.dispose()
  expect(native.memory().live).toBeLessThan(before)
})

describe('mixed batches', () => {
  const batch = ['v', null, 'q', 'v', 'all', 'bias', 'q8', 'lora', 'q', 'dora', 'replaced', 'v']
  let set: AdapterSet
  let pixels: Float32Array
  const image = 3 * 40 * 40

  beforeAll(async () => {
    set = new AdapterSet(clip)
    await set.loadAdapter(await randomAdapter('mix-q', 11, 4, ['self_attn.q_proj']), { as: 'q' })
    await set.loadAdapter(await randomAdapter('mix-q8', 12, 8, ['self_attn.q_proj', 'self_attn.k_proj']), { as: 'q8' })
    await set.loadAdapter(await randomAdapter('mix-v', 13, 3, ['self_attn.v_proj']), { as: 'v' })
    await set.loadAdapter(await randomAdapter('mix-bias', 14, 5, ['self_attn.out_proj', 'mlp.fc1'], { bias: true }), { as: 'bias' })
    const all = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.out_proj', 'mlp.fc1', 'mlp.fc2']
    await set.loadAdapter(await randomAdapter('mix-all', 15, 2, all), { as: 'all' })
    await set.loadAdapter(fixture('even', 'clip-peft-lora'), { as: 'lora' })
    await set.loadAdapter(fixture('even', 'clip-peft-dora'), { as: 'dora' })
    await set.loadAdapter(fixture('even', 'clip-peft-rslora-bias'), { as: 'replaced' })
    pixels = Float32Array.from({ length: batch.length * image }, (_, i) => Math.sin(i * 0.37) + Math.cos(i * 0.011))
  })
  afterAll(() => set.dispose())

  const texts = batch.map((_, i) => [598, 3 + i, 40 + 2 * i, 7, ...(i % 3 === 0 ? [9, 10] : []), 599])

  async function separately(): Promise<[Float32Array[], Float32Array[]]> {
    const rows: [Float32Array[], Float32Array[]] = [[], []]
    for (const [i, name] of batch.entries()) {
      await set.setAdapter(name ?? [])
      const own = scope(() => [
        clip.encodeImage(Tensor.from(pixels.slice(i * image, (i + 1) * image), [1, 3, 40, 40]), set),
        clip.encodeText([texts[i]], set),
      ])
      for (const [k, tensor] of own.entries()) rows[k].push(await tensor.floats())
    }
    return rows
  }

  test('eight adapters in one batch: the rows of separate batches', async () => {
    const [images, encoded] = await separately()
    const mixed = await set.mix(batch)
    const [image, text] = scope(() => [mixed.encodeImage(Tensor.from(pixels, [batch.length, 3, 40, 40])), mixed.encodeText(texts)])
    const width = clip.config.projectionDim
    const [gotImage, gotText] = [await image.floats(), await text.floats()]
    for (const [i, name] of batch.entries()) {
      const row = (values: Float32Array) => values.subarray(i * width, (i + 1) * width)
      expect([name, relativeError([row(gotImage), images[i]]) < 1e-6]).toEqual([name, true])
      expect([name, relativeError([row(gotText), encoded[i]]) < 1e-6]).toEqual([name, true])
    }
    const plain = scope(() => clip.encodeImage(Tensor.from(pixels, [batch.length, 3, 40, 40])))
    expect(relativeError([gotImage, await plain.floats()])).toBeGreaterThan(0.01)
  })

  test('equal texts with other adapters are not one', async () => {
    const mixed = await set.mix(['q', 'v', null])
    const features = scope(() => mixed.encodeText([texts[0], texts[0], texts[0]]))
    const [a, b, c] = await features.floats().then((all) => [0, 1, 2].map((i) => all.subarray(i * 48, (i + 1) * 48)))
    expect(relativeError([a, c])).toBeGreaterThan(1e-4)
    expect(relativeError([b, c])).toBeGreaterThan(1e-4)
    expect(relativeError([a, b])).toBeGreaterThan(1e-4)
  })

  test('a bank is made once, and anew after a swap', async () => {
    await set.mix(['q', 'v'])
    const live = native.memory().live
    await set.mix(['v', 'q', 'q'])
    expect(native.memory().live).toBe(live)
    await set.hotswapAdapter(join(scratch, 'mix-q8'), 'q')
    expect(native.memory().live).toBeLessThan(live)
    await set.hotswapAdapter(join(scratch, 'mix-q'), 'q')
  })
})

test('classify takes a set', async () => {
  const set = new AdapterSet(clip)
  await set.loadAdapter(await randomAdapter('classes', 21, 4, ['self_attn.q_proj', 'mlp.fc1'], { scale: 4 }))
  const folder = await tinyImages(join(scratch, 'images'), ['red', 'green'], 1)
  const images = ['red', 'green'].map((name) => join(folder, name, '0.png'))
  const [first] = await classify(clip, images, ['a', 'b'], { injection: set })
  set.disableAdapter()
  const [plain] = await classify(clip, images, ['a', 'b'], { injection: set })
  expect(first.probabilities[0]).not.toBeCloseTo(plain.probabilities[0], 3)
  set.dispose()
})

test('an adapter of another base is refused', async () => {
  const folder = join(scratch, 'based')
  cpSync(fixture('even', 'clip-peft-lora'), folder, { recursive: true })
  const set = new AdapterSet(clip)
  const base = { version: 1, base: await fingerprint(clip.weights.checkpoint) }
  writeFileSync(join(folder, 'cambium_base.json'), JSON.stringify(base))
  await set.loadAdapter(folder, { as: 'right' })
  writeFileSync(join(folder, 'cambium_base.json'), JSON.stringify({ ...base, base: base.base.replace(/.$/, '-') }))
  expect(await codeOf(() => set.loadAdapter(folder, { as: 'wrong' }))).toBe('E_BASE')
  set.dispose()
})
