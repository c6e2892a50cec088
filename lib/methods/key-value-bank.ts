// Keys and values beside the attention of the first blocks of a tower, as prompt methods learn them: of one task, or of several tasks
// stacked for evaluation with a task for each sample.
import { CambiumError } from '../errors.js'
import type { Tower } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { concatRows, reshape } from '../ops.js'
import { noGradient, Parameter, scope, type Tensor } from '../tensor.js'

export interface KeyValueOptions {
  /** blocks of each tower that have them, the first ones; at most all of a tower */
  readonly depth: number
  /** l, how many in a block */
  readonly length: number
  readonly towers: readonly Tower[]
}

/** f32 [T, l, D] */
export interface KeyValues<T extends Tensor = Tensor> {
  readonly keys: T
  readonly values: T
}

/** The start of one tensor, `count` numbers; null: zeros. Sites count keys and values of all blocks, whatever the towers. */
export type KeyValueStart = (part: keyof KeyValues, site: number, count: number) => Float32Array | null

export class KeyValueBank {
  /** named `task-<t>.<tower>.<layer>.keys` and `.values`, [1, l, D] each */
  readonly parameters: Parameter[] = []
  private readonly byPlace = new Map<string, KeyValues<Parameter>>()

  /** @throws E_OPTION for a depth or length that is no positive integer, no tower */
  constructor(clip: Clip, { depth, length, towers }: KeyValueOptions, task: number, start: KeyValueStart) {
    for (const [name, value] of Object.entries({ depth, length }))
      if (!Number.isInteger(value) || value < 1) throw new CambiumError('E_OPTION', `${name}: expected a positive integer, got ${value}`)
    if (towers.length === 0) throw new CambiumError('E_OPTION', 'towers: expected vision, text or both, got none')
    let site = 0
    for (const tower of ['vision', 'text'] as const) {
      const { hiddenSize, numHiddenLayers } = clip.config[tower]
      for (let layer = 0; layer < Math.min(depth, numHiddenLayers); layer++, site++) {
        if (!towers.includes(tower)) continue
        const named = (part: keyof KeyValues) => {
          const name = `task-${task}.${tower}.${layer}.${part}`
          const parameter = Parameter.named(name, start(part, site, length * hiddenSize), [1, length, hiddenSize])
          parameter.trainable = true
          this.parameters.push(parameter)
          return parameter
        }
        this.byPlace.set(`${tower}.${layer}`, { keys: named('keys'), values: named('values') })
      }
    }
  }

  at(tower: Tower, layer: number): KeyValues<Parameter> | undefined {
    return this.byPlace.get(`${tower}.${layer}`)
  }

  /** By `<tower>.<layer>`. */
  get layers(): ReadonlyMap<string, KeyValues<Parameter>> {
    return this.byPlace
  }

  dispose(): void {
    for (const parameter of this.parameters) parameter.dispose()
  }
}

/** The banks of several tasks one after the other, [T, l, D] a layer. */
export class KeyValueStack {
  private readonly layers: ReadonlyMap<string, KeyValues>

  /** @param banks at least one, of the same options */
  constructor(banks: readonly KeyValueBank[]) {
    const places = [...banks[0].layers.keys()]
    const stack = (place: string, part: keyof KeyValues) => {
      const parts = banks.map(({ layers }) => (layers.get(place) as KeyValues)[part])
      return reshape(concatRows(parts), [parts.length, ...parts[0].shape.slice(1)])
    }
    const stacked = scope(() => noGradient(() => places.map((place) => ({ keys: stack(place, 'keys'), values: stack(place, 'values') }))))
    this.layers = new Map(places.map((place, i) => [place, stacked[i]]))
  }

  at(tower: Tower, layer: number): KeyValues | undefined {
    return this.layers.get(`${tower}.${layer}`)
  }

  dispose(): void {
    for (const { keys, values } of this.layers.values()) {
      keys.dispose()
      values.dispose()
    }
  }
}
