/**
 * A step of a loop that a GPU replays as one graph instead of being told every kernel again (DESIGN: nothing in it asks the
 * host). Everything that changes from step to step is an input, or lives in tensors that are written between steps (gates,
 * learning rate, labels). On the CPU, and with CAMBIUM_GRAPH=0, the function is simply called.
 */
import process from 'node:process'
import { CambiumError, isCambiumError } from './errors.js'
import { native } from './native.js'
import { scope, step, Tensor } from './tensor.js'

/** Graphs that are kept, for as many shapes of the inputs; the one unused for longest goes. */
const MOST_GRAPHS = 4

/** A captured step of one set of shapes. */
interface Graph {
  /** where the step reads its inputs */
  readonly inputs: readonly Tensor[]
  /** of the bytes that it took from the host while it was first run: they must not change */
  readonly written: bigint
  capture?: number
}

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
 * @param fn queues the step from its inputs and returns its results; it may change parameters and optimizer state in place, and
 * must depend on nothing else that changes but `shape`. Parameters' gradients must be used up inside (by an optimizer).
 */
export function capture<S = void>(fn: Step<S>, { otherwise }: CaptureOptions = {}): CapturedStep<S> {
  const graphs = new Map<string, Graph>()
  let plain = native.backendInfo().device === 'cpu' || process.env.CAMBIUM_GRAPH === '0'
  let recorded = 0
  const dispose = () => {
    for (const graph of graphs.values()) free(graph)
    graphs.clear()
  }
  const captured = (inputs: readonly Tensor[], shape: S) =>
    step(() => {
      const key = `${JSON.stringify(shape)} ${inputs.map((t) => `${t.dtype}[${t.shape}]`).join(' ')}`
      const graph = graphs.get(key)
      graphs.delete(key)
      // The first step of some shapes is run as it is: it brings scratch, algorithms and kernels into place.
      const first = !graph
      const kept = graph ?? prepare(inputs)
      const queue = (own: readonly Tensor[]) => fn(own, shape)
      try {
        fill(kept, inputs)
        if (!first && kept.capture === undefined) {
          kept.capture = record(queue, kept)
          recorded++
        }
        const result = first ? rehearse(queue, kept) : native.replay(kept.capture as number).map((id) => new Tensor(id))
        graphs.set(key, first ? { ...kept, written: native.takeWritten() } : kept)
        while (graphs.size > MOST_GRAPHS) graphs.delete(freeOldest(graphs))
        return result
      } catch (error) {
        free(kept)
        throw error
      }
    })
  return {
    get graphs() {
      return recorded
    },
    async run(inputs, shape) {
      if (!plain) {
        try {
          return await captured(inputs, shape)
        } catch (error) {
          if (!otherwise || !isCambiumError(error) || error.code !== 'E_CAPTURE') throw error
          dispose()
          plain = true
          otherwise(error.message)
        }
      }
      return step(() => [...fn(inputs, shape)])
    },
    dispose,
  }
}

/** Inputs that live as long as the graph. */
function prepare(inputs: readonly Tensor[]): Graph {
  return { inputs: inputs.map((t) => new Tensor(native.create(t.dtype, t.shape, null, true))), written: 0n }
}

function fill(graph: Graph, inputs: readonly Tensor[]): void {
  graph.inputs.forEach((to, i) => {
    native.copy(inputs[i].id, to.id)
  })
}

type Queue = (inputs: readonly Tensor[]) => readonly Tensor[]

function rehearse(queue: Queue, { inputs }: Graph): Tensor[] {
  native.takeWritten()
  return [...queue(inputs)]
}

function record(queue: Queue, graph: Graph): number {
  native.takeWritten()
  const capture = native.beginCapture()
  try {
    const outputs = scope(() => [...queue(graph.inputs)])
    native.clearTape()
    native.endCapture(
      capture,
      outputs.map((t) => t.id),
    )
    if (native.takeWritten() === graph.written) return capture
    throw new CambiumError(
      'E_CAPTURE',
      'capture: expected a step whose host values are inputs, got one that wrote other values the second time',
    )
  } catch (error) {
    native.dropGradients()
    native.freeCapture(capture)
    throw error
  }
}

function free({ inputs, capture }: Graph): void {
  for (const tensor of inputs) tensor.dispose()
  if (capture !== undefined) native.freeCapture(capture)
}

function freeOldest(graphs: Map<string, Graph>): string {
  const [[key, graph]] = graphs
  free(graph)
  return key
}
