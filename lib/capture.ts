/**
 * A step of a loop that a GPU replays as one graph instead of being told every kernel again (docs/architecture.md §4: nothing in it
 * asks the host). Everything that changes from step to step is an input, or lives in tensors that are written between steps (gates,
 * learning rate, labels). On the CPU, and with CAMBIUM_GRAPH=0, the function is simply called.
 */
import process from 'node:process'
import { CambiumError, isCambiumError } from './errors.js'
import { native } from './native.js'
import { scope, step, synchronize, Tensor } from './tensor.js'

/** Graphs that are kept, for as many shapes of the inputs; the one unused for longest goes. */
const MOST_GRAPHS = 8

/** A step that a GPU replays as one graph; see {@link capture}. */
export interface CapturedStep<S = void> {
  /**
   * One step.
   * @param shape what the function reads of the host: a graph is recorded for each
   * @returns what the function returned; the caller's to dispose. @throws E_CAPTURE when the step cannot be captured
   */
  run(inputs: readonly Tensor[], shape: S): Promise<Tensor[]>
  /** how many graphs were recorded so far */
  readonly graphs: number
  dispose(): void
}

type Step<S> = (inputs: readonly Tensor[], shape: S) => readonly Tensor[]

export interface CaptureOptions {
  /** Told why a step cannot be captured: this and all later ones are then simply called. Default: E_CAPTURE is thrown. */
  readonly otherwise?: (reason: string) => void
}

/**
 * Makes a step that a GPU records at its second run of some shapes and replays from then on; the same bits as calling `fn`.
 * @param fn queues the step from its inputs and returns its results; it may change parameters and optimizer state in place, and
 * must depend on nothing else that changes but `shape`. Parameters' gradients must be used up inside (by an optimizer).
 */
export function capture<S = void>(fn: Step<S>, { otherwise }: CaptureOptions = {}): CapturedStep<S> {
  const graphs = new Graphs(fn)
  let plain = native.backendInfo().device === 'cpu' || process.env.CAMBIUM_GRAPH === '0'
  return {
    get graphs() {
      return graphs.recorded
    },
    async run(inputs, shape) {
      if (plain) return step(() => [...fn(inputs, shape)])
      try {
        return await step(() => graphs.run(inputs, shape))
      } catch (error) {
        if (!isCambiumError(error) || error.code !== 'E_CAPTURE') throw error
        await synchronize() // a kernel that failed is the reason, and no step runs after it
        if (!otherwise) throw error
        graphs.dispose()
        plain = true
        otherwise(error.message)
        return step(() => [...fn(inputs, shape)])
      }
    },
    dispose: () => graphs.dispose(),
  }
}

/** A step for inputs of some shapes, which has run once. */
interface Graph {
  /** where it reads its inputs */
  readonly inputs: readonly Tensor[]
  /** where it leaves its results */
  readonly results: readonly Tensor[]
  /** of the bytes that it took from the host: they must not change */
  readonly written: bigint
  /** its number, once it was recorded */
  graph?: number
}

class Graphs<S> {
  recorded = 0
  private place: number | undefined
  /** the one used last stands last */
  private readonly graphs = new Map<string, Graph>()
  /** by place and shape: those of one shape are shared, because one graph runs at a time */
  private readonly inputs = new Map<string, Tensor>()

  constructor(private readonly fn: Step<S>) {}

  /**
   * Queues one step, inside of `step`. The first of some shapes is run as it is: it brings scratch, algorithms and kernels into place.
   * @throws E_CAPTURE, and the step was not queued
   */
  run(from: readonly Tensor[], shape: S): Tensor[] {
    this.place ??= native.openCapture()
    const key = JSON.stringify([shape, from.map((t) => [t.dtype, t.shape])])
    const known = this.graphs.get(key)
    const inputs = known?.inputs ?? from.map((t, i) => this.input(t, i))
    inputs.forEach((to, i) => {
      native.copy(from[i].id, to.id)
    })
    const queue = () => scope(() => this.fn(inputs, shape))
    const graph = known ?? this.rehearse(this.place, inputs, queue)
    this.graphs.delete(key)
    this.graphs.set(key, graph)
    if (!known) this.forgetOldest()
    else this.replay(this.place, graph, queue)
    return graph.results.map(copyOf)
  }

  dispose(): void {
    if (this.place === undefined) return
    native.closeCapture(this.place)
    this.place = undefined
    for (const { results } of this.graphs.values()) for (const tensor of results) tensor.dispose()
    for (const tensor of this.inputs.values()) tensor.dispose()
    this.graphs.clear()
    this.inputs.clear()
  }

  private input({ dtype, shape }: Tensor, place: number): Tensor {
    const key = `${place} ${dtype}[${shape}]`
    const kept = this.inputs.get(key) ?? new Tensor(native.create(dtype, shape, null, true))
    this.inputs.set(key, kept)
    return kept
  }

  private rehearse(place: number, inputs: readonly Tensor[], queue: () => readonly Tensor[]): Graph {
    native.enterCapture(place, false)
    try {
      const born = queue()
      native.clearTape()
      const { written } = native.leaveCapture(place)
      const results = born.map(({ dtype, shape }) => new Tensor(native.create(dtype, shape, null, true)))
      copy(born, results)
      for (const tensor of born) tensor.dispose()
      return { inputs, results, written }
    } finally {
      native.giveUpCapture(place)
    }
  }

  private replay(place: number, kept: Graph, queue: () => readonly Tensor[]): void {
    kept.graph ??= this.record(place, kept, () => copy(queue(), kept.results))
    native.replay(place, kept.graph)
  }

  private record(place: number, { written }: Graph, queue: () => void): number {
    native.enterCapture(place, true)
    try {
      scope(queue)
      native.clearTape()
      const left = native.leaveCapture(place)
      this.recorded++
      if (left.written === written) return left.graph
      native.forgetGraph(place, left.graph)
      throw new CambiumError(
        'E_CAPTURE',
        'capture: expected a step whose host values are inputs, got one that wrote other values the second time',
      )
    } finally {
      native.giveUpCapture(place)
    }
  }

  private forgetOldest(): void {
    const [[key, { graph, results }]] = this.graphs
    if (this.graphs.size <= MOST_GRAPHS) return
    if (graph !== undefined && this.place !== undefined) native.forgetGraph(this.place, graph)
    for (const tensor of results) tensor.dispose()
    this.graphs.delete(key)
    const used = new Set([...this.graphs.values()].flatMap(({ inputs }) => inputs))
    for (const [name, tensor] of this.inputs) {
      if (used.has(tensor)) continue
      tensor.dispose()
      this.inputs.delete(name)
    }
  }
}

function copy(from: readonly Tensor[], to: readonly Tensor[]): void {
  from.forEach((tensor, i) => {
    native.copy(tensor.id, to[i].id)
  })
}

function copyOf(from: Tensor): Tensor {
  const to = Tensor.zeros(from.shape, from.dtype)
  native.copy(from.id, to.id)
  return to
}
