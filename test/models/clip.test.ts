import { Clip } from '../../lib/models/clip.js'
import { scope, Tensor } from '../../lib/tensor.js'
import { Case, fixture, relativeError } from '../fixture.js'

const CASES = [
  ['even', 'quick-gelu'],
  ['odd', 'quick-gelu'],
  ['odd', 'gelu'],
] as const

describe('CLIP', () => {
  test.each(CASES)('features of %s %s agree with transformers', async (shape, act) => {
    const folder = fixture(shape, `clip-${act}`)
    const want = await Case.open(folder)
    const clip = await Clip.load(folder, { dtype: 'f32' })
    const [image, text, padded] = scope(() => [
      clip.encodeImage(Tensor.from(want.get('pixels'), want.shape('pixels'))),
      clip.encodeText(want.ids()),
      clip.encodeText(want.ids(), undefined, { dedupe: false, cut: false }),
    ])
    expect(relativeError([await image.floats(), want.get('image_features')])).toBeLessThan(1e-5)
    expect(relativeError([await text.floats(), want.get('text_features')])).toBeLessThan(1e-5)
    expect(relativeError([await padded.floats(), want.get('text_features')])).toBeLessThan(1e-5)
    clip.dispose()
  })
})
