// Every weight trains: full fine-tuning, FLYP's trained part (Goyal et al. 2023: InfoNCE over both towers and the
// scale), and with `at` WiSE-FT (Wortsman et al. 2022): θ_α = (1 − α) θ_0 + α θ_1 over all weights.
import type { LayerInjection, Method, View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { interpolate } from '../ops.js'
import { Parameter, scope, Tensor } from '../tensor.js'

/** What trains beside the weights of the towers. */
export interface FullFineTuningOptions {
  /** train logit_scale too, as FLYP does (default false: τ is the objective's) */
  logitScale?: boolean
}

/**
 * Every weight trains, in f32; `at` is WiSE-FT (Wortsman et al. 2022): θ_α = (1 − α) θ_0 + α θ_1, in the model itself until the view is
 * disposed.
 */
export class FullFineTuning implements Method {
  readonly name = 'full'
  readonly settings = {}

  private constructor(
    readonly clip: Clip,
    readonly parameters: readonly Parameter[],
  ) {}

  /** Makes f32 masters of all weights. */
  static async create(clip: Clip, options: FullFineTuningOptions = {}): Promise<FullFineTuning> {
    const names = [...clip.weights.values()].map((p) => p.name).filter((name) => name !== 'logit_scale' || options.logitScale)
    return new FullFineTuning(clip, await clip.weights.unfreeze(names))
  }

  layer(): LayerInjection | undefined {
    return undefined
  }

  decays(parameter: Parameter): boolean {
    return parameter.shape.length >= 2
  }

  draw(): void {}

  /** WiSE-FT: the model's weights are interpolated until the view is disposed. */
  async at(alpha: number, averages?: ReadonlyMap<string, Tensor>): Promise<View> {
    const held: { parameter: Parameter; trained: Parameter }[] = []
    for (const parameter of this.parameters) {
      const trained = Parameter.named(`${parameter.name}.trained`, null, parameter.shape)
      native.copy(parameter.id, trained.id)
      held.push({ parameter, trained })
      const end = averages?.get(parameter.name) ?? trained
      const start = alpha === 1 ? undefined : await this.original(parameter)
      scope(() => native.copy(start ? interpolate(start, end, alpha, 'f32').id : end.id, parameter.id))
      start?.dispose()
    }
    return {
      layer: () => undefined,
      dispose: () => {
        for (const { parameter, trained } of held) {
          native.copy(trained.id, parameter.id)
          trained.dispose()
        }
      },
    }
  }

  private async original(parameter: Parameter): Promise<Tensor> {
    const out = Tensor.zeros(parameter.shape)
    await this.clip.weights.readInto(out, parameter.name)
    return out
  }
}
