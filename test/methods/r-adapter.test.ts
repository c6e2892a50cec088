import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { merge } from '../../lib/checkpoint/merge.js'
import { RAdapter, type RAdapterOptions } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import type { FloatDType } from '../../lib/native.js'
import { MpmNceLoss } from '../../lib/objectives/mpm-nce.js'
import { AdamW } from '../../lib/optim/adamw.js'
import { backward, scope, step, Tensor } from '../../lib/tensor.js'
import { Case, fixture, relativeError } from '../fixture.js'

const CASES = [
  ['even', 'clip-quick-gelu'],
  ['odd', 'clip-quick-gelu'],
  ['odd', 'clip-gelu'],
] as const

interface Setup {
  clip: Clip
  adapter: RAdapter
  want: Case
  forward(): { image: Tensor; text: Tensor; loss: Tensor }
}

async function setup(shape: string, model: string, form: string, dtype: FloatDType, options: RAdapterOptions): Promise<Setup> {
  const want = await Case.open(fixture(shape, `${model}-r-adapter${form}`))
  const clip = await Clip.load(fixture(shape, model), { dtype })
  const adapter = new RAdapter(clip, options)
  const objective = new MpmNceLoss()
  for (const p of adapter.parameters) p.write(want.get(`initial.${form === '' ? p.name.replace(/\.w$/, '') : p.name}`))
  const forward = () => {
    const image = clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), adapter)
    const text = clip.encodeText(want.ids(), adapter)
    return { image, text, loss: objective.loss(image, text, Tensor.from(want.get('labels'), want.shape('labels'), 'i32')) }
  }
  return { clip, adapter, want, forward }
}

/** The fixtures' gates of step 0, in the order of the adapters. */
function setGates(adapter: RAdapter, want: Case, on: boolean): void {
  for (const { key, gate } of adapter.gates()) {
    const [tower, layer, site] = key.split('.')
    gate.write(Float32Array.of(on ? want.get(`gate.${tower}.${layer}`)[site === 'after_attention' ? 0 : 1] : 1))
  }
}

describe.each(CASES)('R-Adapter on %s %s', (shape, model) => {
  test('three steps of AdamW with gates in the first, averages and the merged model', async () => {
    const { clip, adapter, want, forward } = await setup(shape, model, '', 'f32', {})
    const optimizer = new AdamW(adapter.parameters, { average: true })
    for (let i = 0; i < 3; i++) {
      setGates(adapter, want, i === 0)
      const { loss } = await step(() => {
        const { loss } = forward()
        backward(loss)
        return { loss }
      })
      expect(relativeError([await loss.floats(), want.get(`loss.${i}`)])).toBeLessThan(1e-5)
      loss.dispose()
      if (i === 0) {
        for (const p of adapter.parameters) {
          const got = await (p.gradient as Tensor).floats()
          expect(relativeError([got, want.get(`gradient.${p.name.replace(/\.w$/, '')}`)])).toBeLessThan(3e-5)
        }
      }
      scope(() => optimizer.update(5e-4, 0.9))
    }
    for (const p of adapter.parameters) {
      const name = p.name.replace(/\.w$/, '')
      const start = want.get(`initial.${name}`)
      const change = (end: Float32Array) => end.map((v, i) => v - start[i])
      expect(relativeError([change(await p.floats()), change(want.get(`final.${name}`))])).toBeLessThan(1e-3)
      const average = (await optimizer.averages?.get(p.name)?.floats()) as Float32Array
      expect(relativeError([change(average), change(want.get(`average.${name}`))])).toBeLessThan(1e-3)
    }
    for (const p of adapter.parameters) p.write(want.get(`average.${p.name.replace(/\.w$/, '')}`))
    const merged = await merge(clip, adapter, { alpha: 0.5 })
    const pixels = () => Tensor.from(want.get('pixels'), want.shape('pixels'))
    const view = await adapter.at(0.5)
    const [mi, mt, ui, ut] = scope(() => [
      merged.encodeImage(pixels()),
      merged.encodeText(want.ids()),
      clip.encodeImage(pixels(), view),
      clip.encodeText(want.ids(), view),
    ])
    expect(relativeError([await mi.floats(), want.get('merged_image_features')])).toBeLessThan(1e-5)
    expect(relativeError([await mt.floats(), want.get('merged_text_features')])).toBeLessThan(1e-5)
    expect(relativeError([await ui.floats(), await mi.floats()])).toBeLessThan(1e-5)
    expect(relativeError([await ut.floats(), await mt.floats()])).toBeLessThan(1e-5)
    merged.dispose()
    clip.dispose()
  })

  test('bf16 errs at most 1.2 times what PyTorch autocast does', async () => {
    const { clip, adapter, want, forward } = await setup(shape, model, '', 'bf16', {})
    setGates(adapter, want, false)
    const { image, text } = scope(forward) // the fixture's features have no gates, its gradients have
    setGates(adapter, want, true)
    await step(() => backward(forward().loss))
    const [features, gradients] = want.get('bf16_error')
    const reference = [want.get('image_features'), want.get('text_features')]
    expect(relativeError([await image.floats(), reference[0]], [await text.floats(), reference[1]])).toBeLessThan(1.2 * features)
    const pairs: [Float32Array, Float32Array][] = []
    for (const p of adapter.parameters)
      pairs.push([await (p.gradient as Tensor).floats(), want.get(`gradient.${p.name.replace(/\.w$/, '')}`)])
    expect(relativeError(...pairs)).toBeLessThan(1.2 * gradients)
    clip.dispose()
  })

  test.each([
    ['-rank', { rank: 4 }],
    ['-rank-scale', { rank: 4, scale: 0.1 }],
  ])('form %s', async (form, options) => {
    const { clip, adapter, want, forward } = await setup(shape, model, form, 'f32', options)
    const { image, text, loss } = await step(() => {
      const result = forward()
      backward(result.loss)
      return result
    })
    expect(relativeError([await image.floats(), want.get('image_features')])).toBeLessThan(1e-5)
    expect(relativeError([await text.floats(), want.get('text_features')])).toBeLessThan(1e-5)
    expect(relativeError([await loss.floats(), want.get('loss')])).toBeLessThan(1e-5)
    const scalars: [Float32Array, Float32Array][] = []
    for (const p of adapter.parameters) {
      const pair: [Float32Array, Float32Array] = [await (p.gradient as Tensor).floats(), want.get(`gradient.${p.name}`)]
      if (p.count === 1) scalars.push(pair)
      else expect(relativeError(pair)).toBeLessThan(3e-5)
    }
    // One number each, and some are near zero by cancellation: they are measured together.
    if (scalars.length > 0) expect(relativeError(...scalars)).toBeLessThan(3e-5)
    // Folded in full, the adapter is in the weights.
    const merged = await merge(clip, adapter, { alpha: 1 })
    const folded = scope(() => [merged.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels'))), merged.encodeText(want.ids())])
    expect(relativeError([await folded[0].floats(), want.get('image_features')])).toBeLessThan(1e-5)
    expect(relativeError([await folded[1].floats(), want.get('text_features')])).toBeLessThan(1e-5)
    merged.dispose()
    clip.dispose()
  })
})

test('α = 0 gives back the original bytes; a merged folder gives the same features again', async () => {
  const { clip, adapter, want } = await setup('even', 'clip-quick-gelu', '', 'f32', {})
  const out = await mkdtemp(join(tmpdir(), 'cambium-merge-'))
  try {
    const zero = await merge(clip, adapter, { alpha: 0 })
    await zero.save(join(out, 'zero'))
    const { readFile } = await import('node:fs/promises')
    const bytes = (folder: string) => readFile(join(folder, 'model.safetensors'))
    expect((await bytes(join(out, 'zero'))).equals(await bytes(clip.folder))).toBe(true)
    const half = await merge(clip, adapter, { alpha: 0.5 })
    await half.save(join(out, 'half'))
    const again = await Clip.load(join(out, 'half'), { dtype: 'f32' })
    const [a, b] = scope(() => [half, again].map((m) => m.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')))))
    expect(Buffer.from((await a.floats()).buffer).equals(Buffer.from((await b.floats()).buffer))).toBe(true)
    expect((await bytes(join(out, 'half'))).equals(await bytes(clip.folder))).toBe(false)
    for (const model of [zero, half, again]) model.dispose()
  } finally {
    clip.dispose()
    await rm(out, { recursive: true, force: true })
  }
})
