// A batch of packed texts as one i32 tensor, and the few numbers of it that the host must know. Where a captured step is to be used
// again for other texts (GPU), batches are padded to few shapes; nothing that is asked of a text's features sees the padding.
import { concatArrays } from '../concat-arrays.js'
import { sliceRows } from '../ops.js'
import type { Tensor } from '../tensor.js'
import type { TextBatch } from './text-batch.js'

export interface TextShape {
  /** M, of all texts together */
  readonly rows: number
  /** U, packed texts */
  readonly texts: number
  /** N, entries that find their text by an index; 0: entry i is text i */
  readonly entries: number
  /** an upper bound of a text's length */
  readonly maxTokens: number
}

/** Texts on the device: i32 [2M + 4U + 1 + N]. */
export interface PackedTexts {
  readonly values: Tensor
  readonly shape: TextShape
}

/** Parts of the tensor, views of it. */
export interface TextTensors {
  /** [M] */
  readonly ids: Tensor
  /** [M] */
  readonly positions: Tensor
  /** [U+1] */
  readonly offsets: Tensor
  /** [U] */
  readonly keys: Tensor
  /** [U]: the row of each text's end token */
  readonly pooled: Tensor
  /** [U]: the position of that row in its text */
  readonly ends: Tensor
  /** [N]: the text of each entry */
  readonly index?: Tensor
}

export const shapeOf = ({ ids, pooled, index, maxTokens }: TextBatch): TextShape => ({
  rows: ids.length,
  texts: pooled.length,
  entries: index?.length ?? 0,
  maxTokens,
})

/** The values of the tensor. */
export function packedValues({ ids, positions, offsets, keys, pooled, index }: TextBatch): Int32Array {
  const ends = pooled.map((row) => positions[row])
  return concatArrays(Int32Array, [ids, positions, offsets, keys, pooled, ends, ...(index ? [index] : [])])
}

export function textTensors({ values, shape: { rows, texts, entries } }: PackedTexts): TextTensors {
  let at = 0
  const next = (count: number) => {
    at += count
    return sliceRows(values, at - count, count)
  }
  return {
    ids: next(rows),
    positions: next(rows),
    offsets: next(texts + 1),
    keys: next(texts),
    pooled: next(texts),
    ends: next(texts),
    ...(entries > 0 ? { index: next(entries) } : {}),
  }
}

/**
 * A shape that all of some batches fit into, one of few: lengths go up to a multiple of 32, rows by quarters of a power of two.
 * @param entries N of every batch
 * @param context the most tokens of a text
 */
export function commonShape(batches: readonly TextBatch[], entries: number, context: number): TextShape {
  const longest = Math.max(...batches.map(({ maxTokens }) => maxTokens))
  const maxTokens = Math.min(context, 32 * Math.ceil(longest / 32))
  // A text fewer, because it is equal to another, is a filler of one row more.
  const least = Math.max(...batches.map(({ ids, pooled }) => ids.length + entries - pooled.length))
  const unit = Math.max(64, 2 ** Math.floor(Math.log2(least)) / 4)
  // Fillers also take the rows that are missing: to the next unit, or to the longest of the batches (of less than 8 units).
  const missing = batches.length === 1 ? unit : 9 * unit
  const fillers = Math.ceil(missing / Math.max(1, maxTokens - 1))
  return { rows: unit * Math.ceil((least + fillers) / unit), texts: entries + fillers, entries, maxTokens }
}

/**
 * The batch with fillers behind its texts, of token 0 and of no entry: no gradient flows to them, and they have no part in a loss.
 * @param shape a common shape of this batch and others
 */
export function padTexts(batch: TextBatch, { rows, texts, maxTokens }: TextShape, entries: number): TextBatch {
  const used = batch.ids.length
  const own = batch.pooled.length
  const longer = (from: Int32Array, length: number) => {
    const to = new Int32Array(length)
    to.set(from)
    return to
  }
  const [ids, positions, keys] = [longer(batch.ids, rows), longer(batch.positions, rows), longer(batch.keys, texts)]
  const [offsets, pooled] = [longer(batch.offsets, texts + 1), longer(batch.pooled, texts)]
  const index = batch.index ?? Int32Array.from({ length: entries }, (_, i) => i)
  for (let start = used, text = own; text < texts; text++) {
    const length = Math.floor((rows - start) / (texts - text)) // what is left, in equal parts
    for (let n = 0; n < length; n++) positions[start + n] = n
    pooled[text] = start + length - 1
    start += length
    offsets[text + 1] = start
  }
  return { ids, positions, offsets, keys, pooled, index, maxTokens }
}
