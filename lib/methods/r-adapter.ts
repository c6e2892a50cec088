// R-Adapter (Kim, Min, Kim & Kwak: Efficient and Versatile Robust Fine-Tuning of Zero-shot Models, ECCV 2024).
//
//   h(z) = z + γ/(1−p) · s · z W,  W [D, D], or B A with B [D, r], A [r, D];  γ ~ Bernoulli(1−p), one per adapter and step
//
// after attention and after the feed-forward of every block of both towers, before the residual add. W and A start at
// zero: still the same model. Where the authors' code differs from the paper (s, token-wise dropping) it is an option.
import { CambiumError } from '../errors.js'
import type { LayerInjection, Method, SerialMap, Tower, View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { gatherRows, linear, scale, scaleRows } from '../ops.js'
import { Parameter, type Tensor } from '../tensor.js'

/** The defaults are the paper's; what its code does otherwise is an option. */
export interface RAdapterOptions {
  /** r of W = B A; full rank when absent (the paper's choice for full data; 4 for few shots) */
  rank?: number
  /** p of adapter dropping (paper: 0.2) */
  drop?: number
  /** one draw per adapter (paper), or per token position, shared by the batch (the authors' code) */
  dropBy?: 'adapter' | 'token'
  /** start of a learnable scalar s per adapter (the authors' code: 0.1); absent: s = 1, fixed (paper) */
  scale?: number
  /** of the random start of B */
  seed?: number
}

const SITES = ['after_attention', 'after_mlp'] as const
export type Site = (typeof SITES)[number]

/** The linear of the block whose output an adapter maps: what it folds into. */
export const LINEAR_BEFORE: Readonly<Record<Site, string>> = { after_attention: 'self_attn.out_proj', after_mlp: 'mlp.fc2' }

/** The factors of one adapter; full rank: `w`, else `b` and `a`. */
export interface Factors {
  readonly w?: Tensor
  readonly b?: Tensor
  readonly a?: Tensor
  readonly s?: Tensor
}

/** One adapter: `<tower>.<layer>.<site>`, its width and its gate. */
interface Adapter {
  readonly key: string
  readonly width: number
  readonly factors: { readonly [name in keyof Factors]: Parameter }
  readonly gate: Parameter
  /** [L, 1], for token-wise dropping */
  readonly mask?: Parameter
}

const RANDOM_SITE = { gates: 0x0aada001, start: 0x0aada002 } as const

/**
 * R-Adapter (Kim et al., ECCV 2024): h(z) = z + s · z W after attention and after the feed-forward of every block, before the residual
 * add; W [D, D], or B A of a rank. W = 0 at the start: still the same model. Folds into the weights at any α ({@link merge}).
 */
export class RAdapter implements Method {
  readonly name = 'r-adapter'
  readonly parameters: Parameter[] = []
  readonly options: Readonly<RAdapterOptions>
  private readonly adapters = new Map<string, Adapter>()

  /** @throws E_OPTION for a rank that is no positive integer below the width, or a drop outside [0, 1) */
  constructor(
    readonly clip: Clip,
    options: RAdapterOptions = {},
  ) {
    const { rank, drop = 0.2, dropBy = 'adapter' } = options
    if (!(drop >= 0 && drop < 1)) throw new CambiumError('E_OPTION', `drop: expected a probability in [0, 1), got ${drop}`)
    if (rank !== undefined && !(Number.isInteger(rank) && rank >= 1))
      throw new CambiumError('E_OPTION', `rank: expected a positive integer, got ${rank}`)
    this.options = { ...options, drop, dropBy }
    for (const tower of ['vision', 'text'] as const) {
      const { hiddenSize, numHiddenLayers } = clip.config[tower]
      for (let layer = 0; layer < numHiddenLayers; layer++) for (const site of SITES) this.add(`${tower}.${layer}.${site}`, hiddenSize)
    }
  }

  layer(tower: Tower, index: number): LayerInjection {
    const at = (site: Site) => this.serial(this.adapter(`${tower}.${index}.${site}`))
    return { afterAttention: at('after_attention'), afterFeedForward: at('after_mlp') }
  }

  get settings(): Readonly<Record<string, unknown>> {
    return { ...this.options }
  }

  decays(parameter: Parameter): boolean {
    return parameter.shape.length >= 2
  }

  /** γ/(1−p) of every adapter, or of every token position of every adapter. */
  draw(seed: number, step: number): void {
    const { drop = 0, dropBy } = this.options
    const keep = (uniform: number) => (uniform < drop ? 0 : 1 / (1 - drop))
    let first = 0
    for (const { gate, mask } of this.adapters.values()) {
      const count = dropBy === 'token' && mask ? mask.count : 1
      const drawn = native.random(seed, step, RANDOM_SITE.gates, count, first).map(keep)
      if (dropBy === 'token') mask?.write(drawn)
      else gate.write(drawn)
      first += count
    }
  }

  /**
   * The adapter as it is evaluated: no dropping, W scaled by α (W_ens = W_org(αW̃ + I), eq. 6), with other factors in
   * the parameters' place when given (their running averages W̃).
   */
  async at(alpha: number, averages?: ReadonlyMap<string, Tensor>): Promise<View> {
    const gate = Parameter.named('alpha', Float32Array.of(alpha), [1])
    const serials = new Map<string, SerialMap>()
    for (const [key, { factors }] of this.adapters) {
      const named = Object.entries(factors).map(([part, p]) => [part, averages?.get(p.name) ?? p])
      serials.set(key, (z, residual) => apply(z, residual, Object.fromEntries(named), gate))
    }
    return {
      layer: (tower, i) => ({
        afterAttention: serials.get(`${tower}.${i}.after_attention`),
        afterFeedForward: serials.get(`${tower}.${i}.after_mlp`),
      }),
      dispose: () => gate.dispose(),
    }
  }

  /** Every adapter's factors, by `<tower>.<layer>.<site>`. */
  *factors(): Generator<[string, { readonly [name in keyof Factors]: Parameter }]> {
    for (const [key, { factors }] of this.adapters) yield [key, factors]
  }

  /** The gate of every adapter, f32 [1]: γ/(1−p) in a training step. */
  *gates(): Generator<{ readonly key: string; readonly gate: Parameter }> {
    yield* this.adapters.values()
  }

  /** Frees its parameters and gates. */
  dispose(): void {
    for (const { gate, mask } of this.adapters.values()) {
      gate.dispose()
      mask?.dispose()
    }
    for (const parameter of this.parameters) parameter.dispose()
  }

  private adapter(key: string): Adapter {
    const adapter = this.adapters.get(key)
    if (!adapter) throw new CambiumError('E_NAME', `r-adapter: expected an adapter of the model, got ${key}`)
    return adapter
  }

  private serial({ factors, gate, mask }: Adapter): SerialMap {
    const { dropBy } = this.options
    return (z, residual, rows) => {
      if (dropBy !== 'token' || !mask) return apply(z, residual, factors, gate)
      return apply(z, residual, factors, undefined, scaleRows(z, gatherRows(mask, rows.positions)))
    }
  }

  private add(key: string, width: number): void {
    const { rank, scale: s, dropBy, seed = 0 } = this.options
    const named = (part: string, data: Float32Array | null, shape: number[]) => {
      const parameter = Parameter.named(`${key}.${part}`, data, shape)
      parameter.trainable = true
      this.parameters.push(parameter)
      return parameter
    }
    const factors: { -readonly [name in keyof Factors]: Parameter } = {}
    if (rank === undefined) {
      factors.w = named('w', null, [width, width])
    } else {
      if (rank >= width) throw new CambiumError('E_OPTION', `rank: expected less than the width ${width}, got ${rank}`)
      const bound = Math.sqrt(6 / (width + rank)) // Xavier-uniform (Glorot & Bengio 2010)
      const uniform = native.random(seed, this.adapters.size, RANDOM_SITE.start, width * rank, 0)
      factors.b = named(
        'b',
        uniform.map((u) => (2 * u - 1) * bound),
        [width, rank],
      )
      factors.a = named('a', null, [rank, width])
    }
    if (s !== undefined) factors.s = named('s', Float32Array.of(s), [1])
    const gate = Parameter.named(`${key}.gate`, Float32Array.of(1), [1])
    const { vision, text } = this.clip.config
    const positions = key.startsWith('vision') ? Math.floor(vision.imageSize / vision.patchSize) ** 2 + 1 : text.maxPositionEmbeddings
    const mask = dropBy === 'token' ? Parameter.named(`${key}.mask`, new Float32Array(positions).fill(1), [positions, 1]) : undefined
    this.adapters.set(key, { key, width, factors, gate, mask })
  }
}

/** residual + z + gate · s · (x W), x = z unless rows of it were dropped. */
function apply(z: Tensor, residual: Tensor, { w, b, a, s }: Factors, gate?: Tensor, x: Tensor = z): Tensor {
  const options = { transposed: true, dtype: 'f32', residual, skip: z, gate } as const
  if (w) return linear(s ? scale(x, s) : x, w, options)
  const low = linear(x, b as Tensor, { transposed: true })
  return linear(s ? scale(low, s) : low, a as Tensor, options)
}
