// LoRA (Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022), as HF PEFT defines it:
//
//   y = x Wᵀ + b + s · (drop(x) Aᵀ Bᵀ + b_lora),  A [R, in], B [out, R],  s = α / R, or α / √R (rsLoRA, Kalajdzievski 2023)
//
// on any linear of the blocks. DoRA (Liu et al. 2024): y = m / ‖W + s B A‖ ∘ (x Wᵀ + s · x Aᵀ Bᵀ) + b, the norm by rows and a
// constant for the gradient. With dropout, the x Wᵀ of DoRA sees all of x (PEFT drops there too, for one more product).
import { CambiumError } from '../errors.js'
import type { LayerInjection, LinearDelta, Method, TokenRows, Tower, View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { placeOf } from '../models/weights.js'
import { dropout, type LowRank, lowRankNorm, multiply } from '../ops.js'
import { Parameter, type Tensor } from '../tensor.js'
import { LORA_INITS, type LoraInit } from './lora-init.js'
import { currentFactors, disposeModule, type LoraFactors, type LoraModule, magnitudeAt, makeModule } from './lora-module.js'
import { type LoraTargetOptions, loraTargets } from './lora-targets.js'

/** Rank, scaling and targets as in PEFT's LoraConfig, and what of its variants is used. */
export interface LoraOptions extends LoraTargetOptions {
  /** train the magnitude of every row too (DoRA) */
  dora?: boolean
  /** a bias in the low-rank path (PEFT's lora_bias) */
  bias?: boolean
  /** probability of dropping an element of the low-rank path's input (default 0) */
  dropout?: number
  /** default 'kaiming'; see lora-init.ts */
  init?: LoraInit
  /** of the random start */
  seed?: number
}

type Scaled = LoraFactors & { readonly scale: Tensor }

/**
 * LoRA (Hu et al., ICLR 2022) as HF PEFT defines it, on linears of the blocks: y = x Wᵀ + b + s · drop(x) Aᵀ Bᵀ, A [R, in], B [out, R],
 * s = α / R or α / √R (rsLoRA); with `dora` rows of W + s B A have lengths of their own that train (Liu et al. 2024).
 */
export class Lora implements Method {
  readonly name = 'lora'
  readonly parameters: Parameter[] = []
  readonly modules: readonly LoraModule[]
  /** step, seed: what dropout is keyed by */
  private readonly state = Parameter.named('lora.state', null, [3], 'i32')
  private readonly layers = new Map<string, LoraModule[]>()

  private constructor(
    readonly clip: Clip,
    readonly options: Readonly<LoraOptions>,
    modules: readonly LoraModule[],
  ) {
    this.modules = modules
    for (const module of modules) {
      const key = `${module.tower}.${module.layer}`
      this.layers.set(key, [...(this.layers.get(key) ?? []), module])
      for (const parameter of Object.values(module.factors)) {
        parameter.trainable = true
        this.parameters.push(parameter)
      }
    }
  }

  /**
   * Reads what the start needs of the weights, and allocates the factors.
   * @throws E_OPTION for options out of range, names that mean no linear, DoRA with PiSSA or OLoRA
   */
  static async create(clip: Clip, options: LoraOptions = {}): Promise<Lora> {
    const { dropout: p = 0, init = 'kaiming', dora } = options
    if (!(p >= 0 && p < 1)) throw new CambiumError('E_OPTION', `dropout: expected a probability in [0, 1), got ${p}`)
    if (!LORA_INITS.includes(init)) throw new CambiumError('E_OPTION', `init: expected ${LORA_INITS.join(', ')}, got ${init}`)
    if (dora && (init === 'pissa' || init === 'olora'))
      throw new CambiumError('E_OPTION', `init: expected kaiming or gaussian with DoRA, got ${init}`)
    const modules: LoraModule[] = []
    try {
      for (const target of loraTargets(clip.config, options)) modules.push(await makeModule(clip, target, options, modules.length))
    } catch (error) {
      modules.forEach(disposeModule)
      throw error
    }
    return new Lora(clip, options, modules)
  }

  get settings(): Readonly<Record<string, unknown>> {
    const { targets } = this.options
    return { ...this.options, ...(targets instanceof RegExp ? { targets: String(targets) } : {}) }
  }

  layer(tower: Tower, index: number): LayerInjection | undefined {
    return this.injection(tower, index, (module) => ({ ...module.factors, scale: module.scale }), this.options.dropout)
  }

  decays(parameter: Parameter): boolean {
    return parameter.shape.length >= 2
  }

  draw(seed: number, step: number): void {
    this.state.write(Int32Array.of(step, seed | 0, Math.floor(seed / 2 ** 32)))
  }

  /** ΔW and the LoRA bias times α, DoRA's magnitude between ‖W‖ and what was trained. No dropout. */
  async at(alpha: number, averages?: ReadonlyMap<string, Tensor>): Promise<View> {
    const held: Parameter[] = []
    const hold = (name: string, data: Float32Array) => {
      const parameter = Parameter.named(name, data, [data.length])
      held.push(parameter)
      return parameter
    }
    const views = new Map<LoraModule, Scaled>()
    for (const module of this.modules) {
      const { a, b, bias, magnitude } = currentFactors(module, averages)
      const moved = magnitude && alpha !== 1 ? hold(`${module.module}.m`, await magnitudeAt(module, magnitude, alpha)) : magnitude
      views.set(module, { a, b, bias, magnitude: moved, scale: hold(`${module.module}.s`, Float32Array.of(alpha * module.scaling)) })
    }
    const starts = new Map(
      this.modules.filter(({ start }) => start).map((m) => [m, hold(`${m.module}.s0`, Float32Array.of(-alpha * m.scaling))]),
    )
    return {
      layer: (tower, index) =>
        this.injection(
          tower,
          index,
          (module) => views.get(module) as Scaled,
          0,
          (module) => starts.get(module),
        ),
      dispose: () => {
        for (const parameter of held) parameter.dispose()
      },
    }
  }

  /** Frees the factors; the model is as it was. */
  dispose(): void {
    this.modules.forEach(disposeModule)
    this.state.dispose()
  }

  private injection(
    tower: Tower,
    index: number,
    view: (module: LoraModule) => Scaled,
    p = 0,
    startScale: (module: LoraModule) => Tensor | undefined = ({ start }) => start?.scale,
  ): LayerInjection | undefined {
    const modules = this.layers.get(`${tower}.${index}`)
    if (!modules) return undefined
    const linears = modules.map((module): [string, LinearDelta] => {
      const { a, b, bias, scale } = view(module)
      const lowRank: LowRank[] = [{ a, b, bias, scale }]
      const offset = startScale(module)
      if (module.start && offset) lowRank.push({ a: module.start.a, b: module.start.b, scale: offset })
      return [module.linear, { lowRank, columnScale: this.columnScale(module, view(module)), input: this.drop(module, p) }]
    })
    return { linears: Object.fromEntries(linears) }
  }

  private columnScale(module: LoraModule, { a, b, scale, magnitude }: Scaled): Tensor | undefined {
    if (!magnitude) return undefined
    const { name, third = 0 } = placeOf(`${module.module}.weight`)
    const rows = { row: third * module.out, rows: module.out }
    return multiply(magnitude, lowRankNorm(this.clip.weights.get(name), { delta: { a, b, scale }, ...rows, inverse: true }))
  }

  private drop(module: LoraModule, p: number): LinearDelta['input'] {
    if (p === 0) return undefined
    const site = this.modules.indexOf(module)
    return (x: Tensor, rows: TokenRows) => dropout(x, rows, p, { keys: rows.keys, state: this.state, site })
  }
}
