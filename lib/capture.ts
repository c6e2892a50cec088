/**
 * A step of a loop that a GPU replays as one graph instead of being told every kernel again (DESIGN: nothing in it asks the
 * host). Everything that changes from step to step is an input, or lives in tensors that are written between steps (gates,
 * learning rate, labels). On the CPU, and with CAMBIUM_GRAPH=0, the function is simply called.
 */
import process from 'node:process'
import { CambiumError } from './errors.js'
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

export interface CapturedStep {
  /** One step. @returns what the function returned; the caller's to dispose. @throws E_CAPTURE when the step cannot be captured */
  run(inputs: readonly Tensor[]): Promise<Tensor[]>
  dispose(): void
}

/**
 * @param fn queues the step from its inputs and returns its results; it may change parameters and optimizer state in place, and
 * must depend on nothing else that changes. Parameters' gradients must be used up inside (by an optimizer).
 */
export function capture(fn: (inputs: readonly Tensor[]) => readonly Tensor[]): CapturedStep {
  const graphs = new Map<string, Graph>()
  const plain = native.backendInfo().device === 'cpu' || process.env.CAMBIUM_GRAPH === '0'
  return {
    run: (inputs) =>
      plain
        ? step(() => [...fn(inputs)])
        : step(() => {
            const key = inputs.map((t) => `${t.dtype}[${t.shape}]`).join(' ')
            const graph = graphs.get(key)
            graphs.delete(key)
            // The first step of some shapes is run as it is: it brings scratch, algorithms and kernels into place.
            const first = !graph
            const kept = graph ?? prepare(inputs)
            try {
              fill(kept, inputs)
              const result = first ? rehearse(fn, kept) : replay(fn, kept)
              graphs.set(key, first ? { ...kept, written: native.takeWritten() } : kept)
              while (graphs.size > MOST_GRAPHS) graphs.delete(dispose(graphs, [...graphs.keys()][0]))
              return result
            } catch (error) {
              free(kept)
              throw error
            }
          }),
    dispose() {
      for (const graph of graphs.values()) free(graph)
      graphs.clear()
    },
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

function rehearse(fn: (inputs: readonly Tensor[]) => readonly Tensor[], { inputs }: Graph): Tensor[] {
  native.takeWritten()
  return [...fn(inputs)]
}

function replay(fn: (inputs: readonly Tensor[]) => readonly Tensor[], graph: Graph): Tensor[] {
  graph.capture ??= record(fn, graph)
  return native.replay(graph.capture).map((id) => new Tensor(id))
}

function record(fn: (inputs: readonly Tensor[]) => readonly Tensor[], graph: Graph): number {
  native.takeWritten()
  const capture = native.beginCapture()
  try {
    const outputs = scope(() => [...fn(graph.inputs)])
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

function dispose(graphs: Map<string, Graph>, key: string): string {
  const graph = graphs.get(key)
  if (graph) free(graph)
  return key
}
