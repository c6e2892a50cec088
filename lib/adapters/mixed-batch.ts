/** A batch whose samples have adapters of their own. Good for many batches, until one of its adapters is swapped or deleted. */
import { CambiumError } from '../errors.js'
import type { Injection } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { concatRows, gatherRows, reshape } from '../ops.js'
import { scope, Tensor } from '../tensor.js'
import type { Bank } from './bank.js'
import type { WeightedView } from './weighted-view.js'

/** Samples that run together. */
interface Part {
  readonly samples: number[]
  readonly injection: (samples: readonly number[]) => Injection | undefined
}

/**
 * A batch whose samples have adapters of their own, made by {@link AdapterSet.mix}. Good until one of its adapters is swapped or
 * deleted.
 */
export class MixedBatch {
  private readonly parts: Part[]

  /**
   * @param names the adapter of each sample, or null
   * @param together names of the bank's adapters, in its order
   * @param apart adapters that need a pass of their own
   */
  constructor(
    private readonly clip: Clip,
    private readonly names: readonly (string | null)[],
    together: readonly string[],
    bank: Bank | undefined,
    apart: ReadonlyMap<string, WeightedView>,
  ) {
    const indices = names.map((name) => (name === null ? -1 : together.indexOf(name)))
    const own = (name: string | null) => names.flatMap((other, i) => (other === name ? [i] : []))
    const shared = names.flatMap((name, i) => (name === null || !apart.has(name) ? [i] : []))
    const indexed = (samples: readonly number[]) =>
      bank?.injection(
        Tensor.from(
          Int32Array.from(samples, (i) => indices[i]),
          [samples.length],
          'i32',
        ),
      )
    this.parts = [...apart].map(([name, view]) => ({ samples: own(name), injection: () => view }))
    if (shared.length > 0) this.parts.push({ samples: shared, injection: indexed })
  }

  /**
   * Image features before normalisation; synchronous, as Clip.encodeImage.
   * @param pixels f32 [B, 3, S, S]
   * @returns f32 [B, P]
   */
  encodeImage(pixels: Tensor): Tensor {
    const [batch, ...image] = pixels.shape
    this.expect(batch)
    return this.encode((samples, injection) => {
      if (samples.length === batch) return this.clip.encodeImage(pixels, injection)
      const flat = reshape(pixels, [batch, image.reduce((product, side) => product * side, 1)])
      return this.clip.encodeImage(reshape(gatherRows(flat, indexTensor(samples)), [samples.length, ...image]), injection)
    })
  }

  /**
   * Text features before normalisation, one row per entry. Equal texts are encoded once for each entry.
   * @param tokens ids of each text with its start and end token
   */
  encodeText(tokens: readonly (readonly number[])[]): Tensor {
    this.expect(tokens.length)
    return this.encode((samples, injection) =>
      this.clip.encodeText(
        samples.map((i) => tokens[i]),
        injection,
        { dedupe: false },
      ),
    )
  }

  private expect(batch: number): void {
    if (batch !== this.names.length)
      throw new CambiumError('E_SHAPE', `mix: expected a batch of ${this.names.length}, one for each name, got ${batch}`)
  }

  /** Every part, and the rows back in their order. */
  private encode(pass: (samples: readonly number[], injection: Injection | undefined) => Tensor): Tensor {
    return scope(() => {
      const features = this.parts.map(({ samples, injection }) => pass(samples, injection(samples)))
      if (features.length === 1) return features[0]
      const order = new Int32Array(this.names.length)
      for (const [row, sample] of this.parts.flatMap(({ samples }) => samples).entries()) order[sample] = row
      return gatherRows(concatRows(features), indexTensor(order))
    })
  }
}

const indexTensor = (rows: ArrayLike<number>) => Tensor.from(Int32Array.from(rows), [rows.length], 'i32')
