/**
 * Random draws of the loader. They are keyed by seed, epoch and sample, never by batch, thread or order of arrival, so that a
 * resumed run, another batch size or another machine draws the same.
 */
import { native } from '../native.js'

/** Uniforms of [0, 1). */
export interface DataRandom {
  /** `count` draws for the order of an epoch. */
  order(epoch: number, count: number): ArrayLike<number>
  /** The stream of one sample in one epoch; each call gives the next draw. */
  sample(epoch: number, sample: number): () => number
}

const ORDER_SITE = 0x6f726472
const SAMPLE_SITE = 0x73616d70
/** Draws set aside for a sample; RandomResizedCrop needs at most 41, the text 1. */
const DRAWS = 64

/** Philox4x32-10 of the native core. */
export function philoxRandom(seed: number): DataRandom {
  return {
    order: (epoch, count) => native.random(seed, epoch, ORDER_SITE, count, 0),
    sample(epoch, sample) {
      const draws = native.random(seed, epoch, SAMPLE_SITE, DRAWS, sample * DRAWS)
      let next = 0
      return () => draws[next++ % DRAWS]
    },
  }
}

/** The order of an epoch: Fisher and Yates over `count` samples. */
export function shuffledOrder(count: number, epoch: number, random: DataRandom): Int32Array {
  const order = Int32Array.from({ length: count }, (_, index) => index)
  const draws = random.order(epoch, count)
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(draws[i] * (i + 1))
    const swap = order[i]
    order[i] = order[j]
    order[j] = swap
  }
  return order
}
