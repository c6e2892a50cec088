/** Features with an adapter in place, against peft on transformers. */
import { readFileSync } from 'node:fs'
import { AdapterSet } from '../../lib/adapters/adapter-set.js'
import { openAdapter } from '../../lib/adapters/open-adapter.js'
import { loadLora } from '../../lib/checkpoint/lora-file.js'
import type { Injection } from '../../lib/injection/injection.js'
import { Clip } from '../../lib/models/clip.js'
import type { FloatDType } from '../../lib/native.js'
import { l2Normalize } from '../../lib/ops.js'
import { scope, Tensor } from '../../lib/tensor.js'
import { Case, fixture, relativeError } from '../fixture.js'

const bf16Error = JSON.parse(readFileSync(fixture('peft', 'bf16_error.json'), 'utf8')) as Record<string, number>

/** Image and text embeddings together. */
async function embeddingError(clip: Clip, injection: Injection, want: Case): Promise<number> {
  const [image, text] = scope(() => [
    l2Normalize(clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels')), injection)),
    l2Normalize(clip.encodeText(want.ids(), injection)),
  ])
  const error = relativeError([await image.floats(), want.get('image_embeds')], [await text.floats(), want.get('text_embeds')])
  image.dispose()
  text.dispose()
  return error
}

async function errorOf(model: string, adapter: string, dtype: FloatDType): Promise<number> {
  const clip = await Clip.load(model, { dtype })
  const set = new AdapterSet(clip)
  try {
    await set.loadAdapter(adapter)
    return await embeddingError(clip, set, await Case.open(adapter))
  } finally {
    set.dispose()
    clip.dispose()
  }
}

const CASES = ['even', 'odd'].flatMap((shape) => ['lora', 'rslora-bias', 'dora'].map((kind) => [shape, `clip-peft-${kind}`] as const))

test.each(CASES)('%s %s: f32', async (shape, name) => {
  expect(await errorOf(fixture(shape, 'clip-quick-gelu'), fixture(shape, name), 'f32')).toBeLessThan(1e-5)
})

test.each(CASES)("%s %s: bf16 within 1.2 of autocast's error", async (shape, name) => {
  expect(await errorOf(fixture(shape, 'clip-quick-gelu'), fixture(shape, name), 'bf16')).toBeLessThan(1.2 * bf16Error[`${shape}/${name}`])
})

test.each(['clip-patterns', 'clip-layers', 'clip-everywhere', 'clip-everywhere-dora'])(
  '%s: patterns, biases, projections, patch and token embeddings',
  async (name) => {
    expect(await errorOf(fixture('peft', name), fixture('peft', name), 'f32')).toBeLessThan(1e-5)
  },
)

test('tensors that stand in for the model are rounded as it is', async () => {
  const folder = fixture('peft', 'clip-everywhere')
  expect(await errorOf(folder, folder, 'bf16')).toBeLessThan(0.02)
})

test('the same features from the method that trains', async () => {
  for (const [shape, name] of CASES.filter(([, kind]) => !kind.endsWith('bias'))) {
    const clip = await Clip.load(fixture(shape, 'clip-quick-gelu'), { dtype: 'f32' })
    const { lora } = await loadLora(clip, fixture(shape, name))
    expect(await embeddingError(clip, lora, await Case.open(fixture(shape, name)))).toBeLessThan(1e-5)
    lora.dispose()
    clip.dispose()
  }
})

test('opened for evaluation, whatever it changes: α 1 is the adapter, 0 the model', async () => {
  for (const [folder, model] of [
    [fixture('even', 'clip-peft-rslora-bias'), fixture('even', 'clip-quick-gelu')],
    [fixture('even', 'clip-peft-dora'), fixture('even', 'clip-quick-gelu')],
    [fixture('peft', 'clip-everywhere'), fixture('peft', 'clip-everywhere')],
  ]) {
    const clip = await Clip.load(model, { dtype: 'f32' })
    const { adapter, alpha } = await openAdapter(clip, folder)
    expect(alpha).toBe(1)
    const want = await Case.open(folder)
    const [whole, none] = [await adapter.at(1), await adapter.at(0)]
    expect(await embeddingError(clip, whole, want)).toBeLessThan(1e-5)
    const text = (injection?: Injection) => scope(() => clip.encodeText(want.ids(), injection))
    expect(relativeError([await text(none).floats(), await text().floats()])).toBeLessThan(2e-6)
    for (const view of [whole, none]) await view.dispose()
    adapter.dispose()
    clip.dispose()
  }
})
