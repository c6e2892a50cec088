// Two ways to run a tower that must not change what comes out: the last block for the pooled token alone, and blocks run
// again in backward.
import { createHash } from 'node:crypto'
import type { Method } from '../../lib/injection/injection.js'
import { FullFineTuning } from '../../lib/methods/full-fine-tuning.js'
import { Lora } from '../../lib/methods/lora.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip, type ClipOptions } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { InfoNceLoss } from '../../lib/objectives/info-nce.js'
import { backward, noGradient, type Parameter, step, synchronize, Tensor } from '../../lib/tensor.js'
import { Case, fixture, relativeError } from '../fixture.js'
import { normals, seedOf } from '../ops/normals.js'

const METHODS: Record<string, (clip: Clip) => Promise<Method & { dispose?(): void }>> = {
  'R-Adapter': async (clip) => new RAdapter(clip, { drop: 0, scale: 0.5 }),
  'R-Adapter of low rank, dropped by token': async (clip) => new RAdapter(clip, { rank: 3, drop: 0.4, dropBy: 'token' }),
  LoRA: (clip) => Lora.create(clip, { r: 2, targets: 'all-linear', dora: true, bias: true }),
  'full fine-tuning': (clip) => FullFineTuning.create(clip),
}

/** A digest: equal for equal bits. */
const bytesOf = (values: Float32Array) =>
  createHash('sha256')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('hex')

interface Result {
  readonly features: Float32Array[]
  readonly gradients: Map<string, Float32Array>
  readonly peak: number
}

async function run(shape: string, make: (clip: Clip) => Promise<Method & { dispose?(): void }>, options: ClipOptions): Promise<Result> {
  const data = await Case.open(fixture(shape, 'clip-quick-gelu'))
  const clip = await Clip.load(fixture(shape, 'clip-quick-gelu'), { dtype: 'f32', ...options })
  const method = await make(clip)
  const objective = new InfoNceLoss(clip.logitScale)
  const moved = (p: Parameter, values: Float32Array) => {
    const by = normals(seedOf(p.name), values.length)
    return values.map((v, i) => v + 0.05 * by[i])
  }
  if (!(method instanceof FullFineTuning)) for (const p of method.parameters) p.write(moved(p, await p.floats()))
  method.draw(1, 0)
  await synchronize()
  native.resetPeak()
  const before = native.memory().peak // what lives, and scratch of test files before this one in the process
  const { image, text } = await step(() => {
    const image = clip.encodeImage(Tensor.from(data.get('pixels'), data.shape('pixels')), method)
    const text = clip.encodeText(data.ids(), method, { cut: false })
    backward(
      objective.loss(
        image,
        text,
        Tensor.from(
          Int32Array.from({ length: image.shape[0] }, (_, i) => i),
          [image.shape[0]],
          'i32',
        ),
      ),
    )
    return { image, text }
  })
  await synchronize()
  const peak = native.memory().peak - before
  const gradients = new Map<string, Float32Array>()
  for (const p of method.parameters) if (p.gradient) gradients.set(p.name, await p.gradient.floats())
  const features = [await image.floats(), await text.floats()]
  for (const t of [image, text]) t.dispose()
  method.dispose?.()
  clip.dispose()
  return { features, gradients, peak }
}

describe.each(['even', 'odd'])('%s', (shape) => {
  test.each(Object.keys(METHODS))('%s: the last block for the pooled token alone', async (name) => {
    const pooled = await run(shape, METHODS[name], {})
    const all = await run(shape, METHODS[name], { lastBlock: 'all' })
    pooled.features.forEach((values, i) => {
      expect(relativeError([values, all.features[i]])).toBeLessThan(2e-6)
    })
    expect(all.gradients.size).toBeGreaterThan(0)
    expect([...pooled.gradients.keys()]).toEqual([...all.gradients.keys()])
    for (const [key, values] of all.gradients) {
      const got = pooled.gradients.get(key) as Float32Array
      // What k's bias adds to a query's scores is the same for every key: its gradient is zero but for rounding.
      // A single number may be what is left of many that cancel.
      if (values.length === 1 || /k_proj.*bias|qkv_proj\.bias/.test(key)) continue
      expect([key, relativeError([got, values]) < 2e-5]).toEqual([key, true])
    }
  })

  test.each(Object.keys(METHODS))('%s: blocks run again in backward give the same bits with less memory', async (name) => {
    const kept = await run(shape, METHODS[name], {})
    const again = await run(shape, METHODS[name], { checkpoint: 'blocks' })
    expect(again.features.map(bytesOf)).toEqual(kept.features.map(bytesOf))
    expect([...again.gradients].map(([key, g]) => [key, bytesOf(g)])).toEqual([...kept.gradients].map(([key, g]) => [key, bytesOf(g)]))
    expect(again.peak).toBeLessThan(kept.peak)
  })
})

test('nothing is kept of a forward pass without gradients', async () => {
  const clip = await Clip.load(fixture('even', 'clip-quick-gelu'), { dtype: 'f32' })
  const method = new RAdapter(clip, { drop: 0 })
  const data = await Case.open(fixture('even', 'clip-quick-gelu'))
  const peakOf = async (forward: () => Tensor) => {
    native.resetPeak()
    const before = native.memory().peak
    const y = await step(forward)
    await synchronize()
    y.dispose()
    return native.memory().peak - before
  }
  const forward = () => clip.encodeImage(Tensor.from(data.get('pixels'), data.shape('pixels')), method)
  await step(() => void noGradient(forward)) // packs weights
  expect(await peakOf(() => noGradient(forward))).toBeLessThan(0.6 * (await peakOf(forward)))
  method.dispose()
  clip.dispose()
})
