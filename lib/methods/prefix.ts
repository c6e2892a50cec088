// Prefix tuning of both towers with one prompt a task, as DualPrompt's task prompts (Wang et al., ECCV 2022):
//
//   out = W_O softmax(Q [K_p; K]ᵀ/√d) [V_p; V] + b_O
//
// one softmax over the l learned slots and the tokens, so the slots take attention from the tokens however they begin: at step 0 the
// model is not the pretrained one. That is the interference which DIKI starts from. A key K_t in feature space says which images a
// task's prompt is for; it learns by its pull −λ mean cos(q, K_t) alone, q the pretrained model's feature of the image.
import { CambiumError } from '../errors.js'
import type { Injection, LayerInjection, Method, Tower, View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { Parameter, type Tensor } from '../tensor.js'
import { KeyValueBank, type KeyValueOptions, KeyValueStack, type KeyValues } from './key-value-bank.js'

export interface PrefixOptions extends Partial<KeyValueOptions> {
  /** prompts and key begin uniform in [low, high); default [0, 0.01), DualPrompt's; its port in PILOT has [−1, 1) */
  readonly range?: readonly [number, number]
  /** of the random start */
  readonly seed?: number
}

const RANDOM_SITE = { prompts: 0x9ef10000, key: 0x9ef1ffff } as const

export class Prefix implements Method {
  readonly name = 'prefix'
  readonly options: Readonly<Required<PrefixOptions>>
  readonly bank: KeyValueBank
  /** K_t, f32 [1, P] */
  readonly key: Parameter

  /**
   * @param task names the parameters and keys their random start
   * @param previous whose prompts this one begins with (not its key)
   * @throws E_OPTION for a depth or length that is no positive integer, no tower
   */
  constructor(
    readonly clip: Clip,
    options: PrefixOptions = {},
    readonly task = 0,
    previous?: Prefix,
  ) {
    const { depth = 8, length = 8, towers = ['vision', 'text'], range = [0, 0.01], seed = 0 } = options
    this.options = { depth, length, towers, range, seed }
    const uniform = (site: number, count: number) =>
      native.random(seed, task, site, count, 0).map((u) => range[0] + (range[1] - range[0]) * u)
    const start = (part: keyof KeyValues, site: number, count: number) =>
      uniform(RANDOM_SITE.prompts + 2 * site + (part === 'keys' ? 0 : 1), count)
    this.bank = new KeyValueBank(clip, this.options, task, start)
    for (const [i, from] of (previous?.bank.parameters ?? []).entries()) native.copy(from.id, this.bank.parameters[i].id)
    const width = clip.config.projectionDim
    this.key = Parameter.named(`task-${task}.key`, uniform(RANDOM_SITE.key, width), [1, width])
    this.key.trainable = true
  }

  get parameters(): readonly Parameter[] {
    return [...this.bank.parameters, this.key]
  }

  get settings(): Readonly<Record<string, unknown>> {
    return { ...this.options, task: this.task }
  }

  layer(tower: Tower, index: number): LayerInjection | undefined {
    return joint(this.bank.at(tower, index))
  }

  decays(): boolean {
    return false
  }

  draw(): void {}

  /** With the prompts or without: there is nothing between. @throws E_OPTION for another alpha */
  async at(alpha: number, averages?: ReadonlyMap<string, Tensor>): Promise<View> {
    if (alpha !== 0 && alpha !== 1) throw new CambiumError('E_OPTION', `prefix: expected alpha 0 or 1, got ${alpha}`)
    const current = (parameter: Parameter) => averages?.get(parameter.name) ?? parameter
    return {
      layer: (tower, index) => {
        const own = alpha === 0 ? undefined : this.bank.at(tower, index)
        return own && joint({ keys: current(own.keys), values: current(own.values) })
      },
      dispose: () => {},
    }
  }

  dispose(): void {
    for (const parameter of this.parameters) parameter.dispose()
  }
}

/** The prompts of several tasks, for evaluation with a task for each sample. */
export class PrefixStack {
  private readonly stack: KeyValueStack

  /** @param tasks at least one, of the same options */
  constructor(tasks: readonly Prefix[]) {
    this.stack = new KeyValueStack(tasks.map(({ bank }) => bank))
  }

  /** @param index i32 [B]: the task of each sample */
  at(index: Tensor): Injection {
    return { layer: (tower, layer) => joint(this.stack.at(tower, layer), index) }
  }

  dispose(): void {
    this.stack.dispose()
  }
}

const joint = (own: KeyValues | undefined, index?: Tensor): LayerInjection | undefined =>
  own && { keyValues: { ...own, softmax: 'joint', ...(index ? { index } : {}) } }
