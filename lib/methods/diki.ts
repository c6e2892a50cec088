// DIKI (Tang, Tian, Li, He, Zhou, Zhao, Li & Jia: Mind the Interference: Retaining Pre-trained Knowledge in Parameter Efficient
// Continual Learning of Vision-Language Models, ECCV 2024): per attention layer, l keys and values beside the frozen attention,
//
//   out = W_O (softmax(Q Kᵀ/√d + mask) V + w · softmax(Q K_rᵀ/√d) V_r) + b_O         (§3.2; no mask on the second, heads as in the first)
//
// in the first `depth` blocks of both towers. K_r ~ U(−1, 1), V_r = 0: still the same model. One object is the bank of one task:
// training sees no other task's parameters, so none of them can change, whatever the optimizer does.
import { CambiumError } from '../errors.js'
import type { Injection, LayerInjection, Method, Tower, View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { concatRows, reshape, scale } from '../ops.js'
import { noGradient, Parameter, scope, Tensor } from '../tensor.js'

export interface DikiOptions {
  /** blocks of each tower that have a bank, the first ones; at most all of a tower (paper: 8) */
  depth?: number
  /** l, keys and values of a bank (paper: 8) */
  length?: number
  /** default both */
  towers?: readonly Tower[]
  /** of the random start */
  seed?: number
}

/** Keys and values of one layer, f32 [T, l, D]: of one task, or of several, one after the other. */
interface Bank<T extends Tensor = Tensor> {
  readonly keys: T
  readonly values: T
}

const RANDOM_SITE = 0xd1c10001

export class Diki implements Method {
  readonly name = 'diki'
  readonly parameters: Parameter[] = []
  readonly options: Readonly<Required<DikiOptions>>
  /** by `<tower>.<layer>` */
  readonly banks = new Map<string, Bank<Parameter>>()

  /**
   * @param task names the parameters, `task-<t>.<tower>.<layer>.keys` and `.values`, [1, l, D] each, and keys their random start
   * @throws E_OPTION for a depth or length that is no positive integer, no tower
   */
  constructor(
    readonly clip: Clip,
    options: DikiOptions = {},
    readonly task = 0,
  ) {
    const { depth = 8, length = 8, towers = ['vision', 'text'], seed = 0 } = options
    for (const [name, value] of Object.entries({ depth, length }))
      if (!Number.isInteger(value) || value < 1) throw new CambiumError('E_OPTION', `${name}: expected a positive integer, got ${value}`)
    if (towers.length === 0) throw new CambiumError('E_OPTION', 'towers: expected vision, text or both, got none')
    this.options = { depth, length, towers, seed }
    let site = 0
    for (const tower of ['vision', 'text'] as const) {
      const { hiddenSize, numHiddenLayers } = clip.config[tower]
      for (let layer = 0; layer < Math.min(depth, numHiddenLayers); layer++, site++)
        if (towers.includes(tower)) this.add(`${tower}.${layer}`, hiddenSize, site)
    }
  }

  get settings(): Readonly<Record<string, unknown>> {
    return { ...this.options, task: this.task }
  }

  layer(tower: Tower, index: number): LayerInjection | undefined {
    return separate(this.banks.get(`${tower}.${index}`))
  }

  decays(parameter: Parameter): boolean {
    return parameter.shape.length >= 2
  }

  draw(): void {}

  /** w = alpha for every sample, by V_r scaled: the branch is linear in it. */
  async at(alpha: number, averages?: ReadonlyMap<string, Tensor>): Promise<View> {
    const current = (parameter: Parameter) => averages?.get(parameter.name) ?? parameter
    const scaled = scope(() =>
      noGradient(() => {
        const factor = Tensor.scalar(alpha)
        return [...this.banks.values()].map(({ values }) => (alpha === 1 ? undefined : scale(current(values), factor)))
      }),
    )
    const views = new Map(
      [...this.banks].map(([key, { keys, values }], i) => [key, { keys: current(keys), values: scaled[i] ?? current(values) }]),
    )
    return {
      layer: (tower, index) => separate(views.get(`${tower}.${index}`)),
      dispose: () => {
        for (const values of scaled) values?.dispose()
      },
    }
  }

  dispose(): void {
    for (const parameter of this.parameters) parameter.dispose()
  }

  private add(key: string, width: number, site: number): void {
    const { length, seed } = this.options
    const named = (part: string, data: Float32Array | null) => {
      const parameter = Parameter.named(`task-${this.task}.${key}.${part}`, data, [1, length, width])
      parameter.trainable = true
      this.parameters.push(parameter)
      return parameter
    }
    const uniform = native.random(seed, this.task, RANDOM_SITE + site, length * width, 0)
    const keys = named(
      'keys',
      uniform.map((u) => 2 * u - 1),
    )
    this.banks.set(key, { keys, values: named('values', null) })
  }
}

/** The banks of several tasks stacked once, [T, l, D] a layer, for evaluation with a task and a weight for each sample. */
export class DikiStack {
  private readonly stacked: ReadonlyMap<string, Bank>

  /** @param tasks at least one, of the same options */
  constructor(tasks: readonly Diki[]) {
    const keys = [...tasks[0].banks.keys()]
    const stacked = (key: string, part: keyof Bank) => {
      const parts = tasks.map((task) => (task.banks.get(key) as Bank)[part])
      return reshape(concatRows(parts), [tasks.length, ...parts[0].shape.slice(1)])
    }
    const stack = scope(() => noGradient(() => keys.map((key) => ({ keys: stacked(key, 'keys'), values: stacked(key, 'values') }))))
    this.stacked = new Map(keys.map((key, i) => [key, stack[i]]))
  }

  /**
   * @param index i32 [B]: the task of each sample
   * @param weight f32 [B]
   */
  at(index: Tensor, weight: Tensor): Injection {
    return {
      layer: (tower, layer) => {
        const bank = this.stacked.get(`${tower}.${layer}`)
        return bank && { keyValues: { ...bank, softmax: 'separate', index, weight } }
      },
    }
  }

  dispose(): void {
    for (const { keys, values } of this.stacked.values()) {
      keys.dispose()
      values.dispose()
    }
  }
}

const separate = (bank: Bank | undefined): LayerInjection | undefined => bank && { keyValues: { ...bank, softmax: 'separate' } }
