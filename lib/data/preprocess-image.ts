/** A decoded image to the pixels that a model wants, by the native core. */
import { CambiumError, messageOf } from '../errors.js'
import { type ImagePlan, native } from '../native.js'
import type { RgbImage } from './rgb-image.js'

/** @returns f32 [3, H, W], normalised @throws E_IMAGE, with its name, for an image that cannot be resized so */
export async function preprocessImage({ data, width, height }: RgbImage, name: string, plan: ImagePlan): Promise<Float32Array> {
  try {
    return await native.preprocessImage(data, width, height, plan)
  } catch (error) {
    // A line of pixels, say, which would become an image of gigabytes.
    const got = `${width} x ${height} pixels (${messageOf(error)})`
    throw new CambiumError('E_IMAGE', `${name}: expected an image that can be resized, got ${got}`, {
      cause: error,
      details: { image: name },
    })
  }
}
