import { mergeLora } from '../../lib/checkpoint/merge-lora.js'
import { Lora, type LoraOptions } from '../../lib/methods/lora.js'
import { Clip } from '../../lib/models/clip.js'
import type { FloatDType } from '../../lib/native.js'
import { InfoNceLoss } from '../../lib/objectives/info-nce.js'
import { concatRows, l2Normalize } from '../../lib/ops.js'
import { AdamW } from '../../lib/optim/adamw.js'
import { backward, noGradient, Parameter, recompute, scope, step, Tensor } from '../../lib/tensor.js'
import { codeOf } from '../core/code-of.js'
import { Case, fixture, relativeError } from '../fixture.js'

const FOLDER = fixture('even', 'clip-quick-gelu')
const ALL = ['q_proj', 'k_proj', 'v_proj', 'out_proj', 'fc1', 'fc2']
const KINDS: Record<string, LoraOptions> = {
  lora: { r: 3, alpha: 6 },
  everything: {
    r: 4,
    alpha: 3,
    rslora: true,
    bias: true,
    rankPattern: { fc1: 7, 'text_model\\..*\\.out_proj': 2 },
    alphaPattern: { fc2: 5 },
    targets: ALL,
  },
  dora: { r: 3, alpha: 6, dora: true, targets: ['q_proj', 'v_proj', 'fc1'] },
}

let want: Case
beforeAll(async () => {
  want = await Case.open(fixture('even', 'clip-peft-training'))
})

async function setup(options: LoraOptions, dtype: FloatDType = 'f32', initial?: string) {
  const clip = await Clip.load(FOLDER, { dtype })
  const lora = await Lora.create(clip, options)
  if (initial) for (const p of lora.parameters) p.write(want.get(`${initial}.initial.${p.name}`))
  const logitScale = Parameter.named('logit_scale', Float32Array.of(Math.log(10)), [1])
  const objective = new InfoNceLoss(logitScale)
  const forward = () => {
    const image = clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), lora)
    const text = clip.encodeText(want.ids(), lora)
    const labels = Int32Array.from(want.ids(), (_, i) => i)
    return {
      image: l2Normalize(image),
      text: l2Normalize(text),
      loss: objective.loss(image, text, Tensor.from(labels, [labels.length], 'i32')),
    }
  }
  const dispose = () => {
    for (const one of [lora, clip, logitScale]) one.dispose()
  }
  return { clip, lora, forward, dispose }
}

const gradientOf = (p: Parameter) => (p.gradient as Tensor).floats()

describe.each(Object.entries(KINDS))('%s as PEFT trains it', (kind, options) => {
  test('features, gradients, three losses and the change of three AdamW steps', async () => {
    const { lora, forward, dispose } = await setup(options, 'f32', kind)
    const names = [...want.shapes.keys()].filter((name) => name.startsWith(`${kind}.initial.`))
    expect(lora.parameters.map((p) => `${kind}.initial.${p.name}`).sort()).toEqual(names.sort())
    const optimizer = new AdamW(lora.parameters, { weightDecay: 0 })
    for (let i = 0; i < 3; i++) {
      const { image, text, loss } = await step(() => {
        const result = forward()
        backward(result.loss)
        return result
      })
      expect(relativeError([[await loss.item()], [want.get(`${kind}.loss`)[i]]])).toBeLessThan(1e-5)
      if (i === 0) {
        expect(relativeError([await image.floats(), want.get(`${kind}.image_embeds`)])).toBeLessThan(1e-5)
        expect(relativeError([await text.floats(), want.get(`${kind}.text_embeds`)])).toBeLessThan(1e-5)
        const all = lora.parameters.map((p) => want.get(`${kind}.gradient.${p.name}`))
        const norm = Math.sqrt(all.reduce((sum, g) => sum + g.reduce((squares, v) => squares + v * v, 0), 0))
        for (const [at, p] of lora.parameters.entries()) {
          const got = await gradientOf(p)
          // Softmax does not see a shift of all keys: the gradient of their bias is rounding alone.
          if (p.name.endsWith('k_proj.lora_B.bias')) expect(Math.max(...got.map(Math.abs))).toBeLessThan(1e-6 * norm)
          else expect([p.name, relativeError([got, all[at]]) < 3e-5]).toEqual([p.name, true])
        }
      }
      for (const t of [image, text, loss]) t.dispose()
      scope(() => optimizer.update(1e-3))
    }
    for (const p of lora.parameters.filter(({ name }) => !name.endsWith('k_proj.lora_B.bias'))) {
      const start = want.get(`${kind}.initial.${p.name}`)
      const change = (end: Float32Array) => end.map((v, i) => v - start[i])
      expect(relativeError([change(await p.floats()), change(want.get(`${kind}.final.${p.name}`))])).toBeLessThan(1e-3)
    }
    optimizer.dispose()
    dispose()
  })

  test('bf16 errs at most 1.2 times what PyTorch autocast does', async () => {
    const { lora, forward, dispose } = await setup(options, 'bf16', kind)
    const { image, text } = await step(() => {
      const result = forward()
      backward(result.loss)
      return result
    })
    const [features, gradients] = want.get(`${kind}.bf16_error`)
    const pairs: [Float32Array, Float32Array][] = [
      [await image.floats(), want.get(`${kind}.image_embeds`)],
      [await text.floats(), want.get(`${kind}.text_embeds`)],
    ]
    expect(relativeError(...pairs)).toBeLessThan(1.2 * features)
    const all: [Float32Array, Float32Array][] = []
    for (const p of lora.parameters) all.push([await gradientOf(p), want.get(`${kind}.gradient.${p.name}`)])
    expect(relativeError(...all)).toBeLessThan(1.2 * gradients)
    dispose()
  })

  test('a view between the model and what was trained equals the merged model', async () => {
    const { clip, lora, dispose } = await setup(options, 'f32', kind)
    const image = (model: Clip, injection?: Parameters<Clip['encodeImage']>[1]) => {
      const y = scope(() => noGradient(() => model.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), injection)))
      return y.floats().finally(() => y.dispose())
    }
    const base = await image(clip)
    expect(relativeError([await image(clip, lora), base])).toBeGreaterThan(0.01)
    for (const alpha of [0, 0.4, 1, 1.5]) {
      const view = await lora.at(alpha)
      const got = await image(clip, view)
      await view.dispose()
      if (alpha === 0) expect(relativeError([got, base])).toBeLessThan(1e-6)
      if (alpha === 1) expect(relativeError([got, await image(clip, lora)])).toBe(0)
      const merged = await mergeLora(clip, lora, { alpha })
      expect(relativeError([got, await image(merged)])).toBeLessThan(1e-5)
      merged.dispose()
    }
    dispose()
  })
})

test.each([
  ['pissa', { r: 3, alpha: 6, init: 'pissa', targets: ['k_proj', 'fc2'] }],
  ['olora', { r: 3, alpha: 6, init: 'olora', targets: ['v_proj', 'fc1'] }],
] as const)('%s starts as the model and moves as PEFT moves', async (kind, options) => {
  const { clip, lora, forward, dispose } = await setup(options)
  const optimizer = new AdamW(lora.parameters, { weightDecay: 0 })
  for (let i = 0; i < 3; i++) {
    const { loss } = await step(() => {
      const { loss } = forward()
      backward(loss)
      return { loss }
    })
    expect(relativeError([[await loss.item()], [want.get(`${kind}.loss`)[i]]])).toBeLessThan(1e-5)
    loss.dispose()
    scope(() => optimizer.update(1e-3))
  }
  const merged = await mergeLora(clip, lora)
  for (const { module } of lora.modules.filter(({ layer }) => layer === 0)) {
    const [end, start] = [await merged.weights.floats(`${module}.weight`), await clip.weights.original(`${module}.weight`)]
    expect(relativeError([end.map((v, i) => v - start[i]), want.get(`${kind}.change.${module}`)])).toBeLessThan(1e-3)
  }
  merged.dispose()
  optimizer.dispose()
  dispose()
})

test.each(['kaiming', 'gaussian', 'pissa', 'olora'] as const)('start %s leaves the model as it is', async (init) => {
  const { clip, lora, forward, dispose } = await setup({ init, targets: ALL })
  const [with_, without] = scope(() =>
    noGradient(() => [forward().image, l2Normalize(clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels'))))]),
  )
  expect(relativeError([await with_.floats(), await without.floats()])).toBeLessThan(2e-6)
  const [{ factors }] = lora.modules
  const a = await (factors.a as Tensor).floats()
  if (init === 'kaiming') expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(1 / Math.sqrt(lora.modules[0].in))
  if (init === 'gaussian') expect(Math.sqrt(a.reduce((sum, v) => sum + v * v, 0) / a.length) * lora.modules[0].rank).toBeCloseTo(1, 0)
  dispose()
})

test('dropout: keyed by the number of the sample, so that parts of a batch draw what the whole draws', async () => {
  const { clip, lora, dispose } = await setup({ r: 4, dropout: 0.4, targets: ['q_proj', 'fc2'] }, 'f32')
  for (const p of lora.parameters) if (p.name.includes('lora_B')) p.write(Float32Array.from({ length: p.count }, (_, i) => Math.sin(i)))
  const [batch, ...shape] = want.shape('pixels')
  const each = want.get('pixels').length / batch
  const pixels = (from: number, to: number) => Tensor.from(want.get('pixels').subarray(from * each, to * each), [to - from, ...shape])
  const run = async (parts: number) => {
    const size = batch / parts
    const image = await step(() => {
      const y = concatRows(
        Array.from(
          { length: parts },
          (_, k) => recompute(() => [clip.encodeImage(pixels(k * size, (k + 1) * size), lora, k * size)], [])[0],
        ),
      )
      backward(y, [Tensor.from(new Float32Array(y.count).fill(1), y.shape)])
      return y
    })
    const values = await image.floats()
    image.dispose()
    const gradients: Float32Array[] = []
    for (const p of lora.parameters) {
      const gradient = p.gradient
      if (gradient) gradients.push(await gradient.floats())
      gradient?.dispose()
      p.trainable = false
      p.trainable = true
    }
    return { values, gradients }
  }
  lora.draw(5, 1)
  const whole = await run(1)
  const parts = await run(2)
  expect(parts.values).toEqual(whole.values)
  for (const [i, g] of parts.gradients.entries()) expect(relativeError([g, whole.gradients[i]])).toBeLessThan(1e-5)
  lora.draw(5, 2)
  expect(relativeError([(await run(1)).values, whole.values])).toBeGreaterThan(1e-3)
  const view = await lora.at(1)
  const still = scope(() => noGradient(() => clip.encodeImage(pixels(0, batch), view)))
  expect(relativeError([await still.floats(), whole.values])).toBeGreaterThan(1e-3)
  still.dispose()
  await view.dispose()
  dispose()
})

test('targets by name, suffix, pattern, tower and layer', async () => {
  const clip = await Clip.load(FOLDER)
  const count = async (options: LoraOptions) => {
    const lora = await Lora.create(clip, options)
    const names = lora.modules.map(({ module }) => module)
    lora.dispose()
    return names
  }
  const layers = clip.config.vision.numHiddenLayers + clip.config.text.numHiddenLayers
  expect(await count({})).toHaveLength(2 * layers)
  expect(await count({ targets: 'all-linear' })).toHaveLength(6 * layers)
  expect(await count({ targets: 'all-linear', exclude: ['fc1', 'fc2'] })).toHaveLength(4 * layers)
  expect(await count({ targets: ['vision_model.encoder.layers.1.mlp.fc1'] })).toEqual(['vision_model.encoder.layers.1.mlp.fc1'])
  expect(await count({ targets: /text_model.*layers\.[01]\..*v_proj$/ })).toHaveLength(2)
  expect(await count({ targets: '.*\\.layers\\.0\\..*fc\\d', tower: 'text' })).toEqual([
    'text_model.encoder.layers.0.mlp.fc1',
    'text_model.encoder.layers.0.mlp.fc2',
  ])
  expect(await count({ layers: [1], tower: 'vision' })).toHaveLength(2)
  expect(await count({ targets: /layers\.0.*/, exclude: 'text_model.*' })).toHaveLength(6)
  for (const options of [
    { targets: ['q_prj'] },
    { targets: /nothing/ },
    { r: 0 },
    { r: 1.5 },
    { r: 10_000 },
    { dropout: 1 },
    { dora: true, init: 'pissa' },
  ] as LoraOptions[])
    expect([options, await codeOf(() => count(options))]).toEqual([options, 'E_OPTION'])
  await expect(count({ targets: ['q_prj'] })).rejects.toThrow('nearest: q_proj')
  clip.dispose()
})
