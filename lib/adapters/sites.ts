/** Where an adapter's deltas go: the linears of the blocks, what it brings to each, and the tensors that a view of them owns on the device. */
import type { LayerInjection, LinearDelta, LinearName, Tower } from '../injection/injection.js'
import { LINEARS, linearModule } from '../injection/linear-modules.js'
import { Parameter } from '../tensor.js'

/** The canonical name of a linear of a block: `text_model.encoder.layers.3.self_attn.q_proj`. */
export type Site = string

/** What an adapter brings to a linear, on the host: s B A beside W [out, in], for an embedding s (B A)ᵀ beside [in, out]. Row-major, f32. */
export interface SiteFactors {
  /** R */
  readonly rank: number
  readonly in: number
  readonly out: number
  /** s: α / R, or α / √R (rsLoRA) */
  readonly scaling: number
  /** [R, in] */
  readonly a: Float32Array
  /** [out, R] */
  readonly b: Float32Array
  /** [out], scaled as B is */
  readonly bias?: Float32Array
  /** [out], of DoRA: the lengths that the rows of W + s B A are given (of an embedding table: its columns) */
  readonly magnitude?: Float32Array
}

/** What is added in a block. */
export function layerOf<D>(
  sites: ReadonlyMap<Site, D>,
  delta: (found: D) => LinearDelta,
  tower: Tower,
  index: number,
): LayerInjection | undefined {
  const found = LINEARS.flatMap((linear): [LinearName, LinearDelta][] => {
    const own = sites.get(linearModule(tower, index, linear))
    return own === undefined ? [] : [[linear, delta(own)]]
  })
  return found.length === 0 ? undefined : { linears: Object.fromEntries(found) }
}

/** Tensors that one view owns. */
export class HeldTensors {
  private readonly tensors: Parameter[] = []

  floats(values: Float32Array, shape: readonly number[]): Parameter {
    return this.keep(Parameter.named('adapter', values, shape))
  }

  keep(parameter: Parameter): Parameter {
    this.tensors.push(parameter)
    return parameter
  }

  dispose(): void {
    for (const tensor of this.tensors) tensor.dispose()
  }
}
