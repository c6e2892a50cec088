// DIKI (Tang, Tian, Li, He, Zhou, Zhao, Li & Jia: Mind the Interference: Retaining Pre-trained Knowledge in Parameter Efficient
// Continual Learning of Vision-Language Models, ECCV 2024): per attention layer, l keys and values beside the frozen attention,
//
//   out = W_O (softmax(Q Kᵀ/√d + mask) V + w · softmax(Q K_rᵀ/√d) V_r) + b_O         (§3.2; no mask on the second, heads as in the first)
//
// in the first `depth` blocks of both towers. K_r ~ U(−1, 1), V_r = 0: still the same model. One object is the bank of one task:
// training sees no other task's parameters, so none of them can change, whatever the optimizer does.
import type { Injection, LayerInjection, Method, Tower, View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { scale } from '../ops.js'
import { noGradient, type Parameter, scope, Tensor } from '../tensor.js'
import { KeyValueBank, KeyValueStack, type KeyValueStart, type KeyValues } from './key-value-bank.js'

/** Where the banks of DIKI are, and how long. */
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

const RANDOM_SITE = 0xd1c10001

/**
 * DIKI (Tang et al., ECCV 2024, §3.2): l keys and values beside the frozen attention of the first blocks, in a softmax of their own,
 * W_O (attention + w · softmax(Q K_rᵀ / √d) V_r) + b_O. V_r = 0 at the start: still the same model. The bank of one task.
 */
export class Diki implements Method {
  readonly name = 'diki'
  readonly options: Readonly<Required<DikiOptions>>
  readonly bank: KeyValueBank

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
    this.options = { depth, length, towers, seed }
    const start: KeyValueStart = (part, site, count) =>
      part === 'values' ? null : native.random(seed, task, RANDOM_SITE + site, count, 0).map((u) => 2 * u - 1)
    this.bank = new KeyValueBank(clip, this.options, task, start)
  }

  get parameters(): readonly Parameter[] {
    return this.bank.parameters
  }

  /** By `<tower>.<layer>`. */
  get banks(): ReadonlyMap<string, KeyValues<Parameter>> {
    return this.bank.layers
  }

  get settings(): Readonly<Record<string, unknown>> {
    return { ...this.options, task: this.task }
  }

  layer(tower: Tower, index: number): LayerInjection | undefined {
    return separate(this.bank.at(tower, index))
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
    this.bank.dispose()
  }
}

/** The banks of several tasks stacked once, [T, l, D] a layer, for evaluation with a task and a weight for each sample. */
export class DikiStack {
  private readonly stack: KeyValueStack

  /** @param tasks at least one, of the same options */
  constructor(tasks: readonly Diki[]) {
    this.stack = new KeyValueStack(tasks.map(({ bank }) => bank))
  }

  /**
   * The banks as an injection in which each sample has that of its task, with its own weight.
   * @param index i32 [B]: the task of each sample, 0 to T - 1
   * @param weight f32 [B], 0 to 1; at 0 a sample's features are the pretrained model's
   */
  at(index: Tensor, weight: Tensor): Injection {
    return {
      layer: (tower, layer) => {
        const bank = this.stack.at(tower, layer)
        return bank && { keyValues: { ...bank, softmax: 'separate', index, weight } }
      },
    }
  }

  dispose(): void {
    this.stack.dispose()
  }
}

const separate = (bank: KeyValues | undefined): LayerInjection | undefined => bank && { keyValues: { ...bank, softmax: 'separate' } }
