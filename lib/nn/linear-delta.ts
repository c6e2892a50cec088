// What a method adds to the linears of a block, as options of the linear op. q, k and v are named apart in the seam; the
// packed product takes their deltas at the columns of its thirds.
import type { LayerInjection, LinearDelta, LinearName, TokenRows } from '../injection/injection.js'
import { concatRows, type LinearOptions, reshape } from '../ops.js'
import { Tensor } from '../tensor.js'

export type DeltaOptions = Pick<LinearOptions, 'lowRank' | 'rows' | 'columnScale'>

/**
 * The deltas of linears whose results stand beside each other in one product, each `width` columns wide.
 * @param x what the product reads, [M, in]
 */
export function deltaOptions(
  names: readonly LinearName[],
  width: number,
  x: Tensor,
  rows: TokenRows,
  injection?: LayerInjection,
): DeltaOptions | undefined {
  const deltas = names.map((name) => injection?.linears?.[name])
  if (!deltas.some((delta) => delta)) return undefined
  const lowRank = deltas.flatMap((delta, i) => (delta ? at(delta, i * width, x, rows) : []))
  return { lowRank, rows, columnScale: columnScale(deltas, width) }
}

function at({ lowRank, input }: LinearDelta, first: number, x: Tensor, rows: TokenRows) {
  const own = input?.(x, rows)
  return lowRank.map((delta) => ({ ...delta, column: first + (delta.column ?? 0), x: own ?? delta.x }))
}

/** Beside each other; ones where a linear has none. */
function columnScale(deltas: readonly (LinearDelta | undefined)[], width: number): Tensor | undefined {
  if (!deltas.some((delta) => delta?.columnScale)) return undefined
  if (deltas.length === 1) return deltas[0]?.columnScale
  const ones = () => Tensor.from(new Float32Array(width).fill(1), [width, 1])
  const parts = deltas.map((delta) => (delta?.columnScale ? reshape(delta.columnScale, [width, 1]) : ones()))
  return reshape(concatRows(parts), [width * deltas.length])
}
