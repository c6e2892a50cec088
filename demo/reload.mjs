// Whether a merged folder, read again, is the adapted model: the features of pictures and names, in f32, of the pretrained
// model with the adapter beside it against those of the folder alone.

import { Clip, encodeImages, encodeTexts } from '../dist/index.mjs'

/** ‖a − b‖ / ‖b‖ */
function relativeDifference(a, b) {
  let [difference, norm] = [0, 0]
  for (const [i, value] of b.entries()) {
    difference += (a[i] - value) ** 2
    norm += value ** 2
  }
  return Math.sqrt(difference / norm)
}

/**
 * @param adapted { model, merged: folders, view: the adapter at its α }
 * @returns { agrees, note }; merging is exact to the rounding of f32
 */
export async function agreement({ model, merged, view }, { data }) {
  const features = async (folder, injection) => {
    const clip = await Clip.load(folder, { dtype: 'f32' })
    const images = await encodeImages(clip, data, injection)
    const texts = await encodeTexts(clip, data.classNames, injection)
    clip.dispose()
    return [images.values, texts]
  }
  const [apart, folded] = [await features(model, view), await features(merged)]
  const difference = Math.max(...apart.map((values, i) => relativeDifference(values, folded[i])))
  return { agrees: difference < 1e-5, note: `features of pictures and names agree to ${difference.toExponential(1)}` }
}
