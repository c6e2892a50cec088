/** Decoded images kept between epochs, up to a budget: decoding the same JPEG twenty times is most of a small run's work. */
import { type DecodeOptions, decodeImage, type ImageSource } from './decode.js'
import type { RgbImage } from './rgb-image.js'

export class ImageCache {
  readonly #images = new Map<number, RgbImage>()
  #bytes = 0

  /** @param budget bytes of decoded pixels; what comes first stays, nothing is thrown out */
  constructor(readonly budget: number) {}

  get bytes(): number {
    return this.#bytes
  }

  /** The image of sample `key`, decoded now or before. Errors: those of decodeImage; a broken image is tried again. */
  async load(key: number, source: ImageSource, options: DecodeOptions): Promise<RgbImage> {
    const known = this.#images.get(key)
    if (known !== undefined) return known
    const image = await decodeImage(source, options)
    if (!this.#images.has(key) && this.#bytes + image.data.byteLength <= this.budget) {
      this.#images.set(key, image)
      this.#bytes += image.data.byteLength
    }
    return image
  }
}
