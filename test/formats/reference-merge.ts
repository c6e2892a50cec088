/** An adapter folded into a checkpoint in plain float64: the formulas of lib/formats/peft-adapter.ts, element by element. */
import type { PlacedAdapter, PlacedTarget } from '../../lib/formats/peft-adapter.js'
import type { StoredTensor } from '../../lib/formats/safetensors-read.js'
import { native } from '../../lib/native.js'

export async function values(t: StoredTensor): Promise<Float64Array> {
  const { path, offset, count, dtype, fileSize } = t
  return Float64Array.from(
    new Float32Array(await native.readTensor({ path, offset, count, from: dtype, to: 'F32', expectedSize: fileSize })),
  )
}

/** Every tensor of the base by name, with the adapter folded in. */
export async function referenceMerge(base: ReadonlyMap<string, StoredTensor>, placed: PlacedAdapter): Promise<Map<string, Float64Array>> {
  const merged = new Map<string, Float64Array>()
  for (const [name, tensor] of base) merged.set(name, await values(tensor))
  for (const { tensor, at } of placed.saved) part(merged, at).set(await values(tensor))
  for (const target of placed.targets) await fold(merged, target)
  return merged
}

/** The elements of a tensor, or of the rows that are meant: a view. */
function part(
  tensors: Map<string, Float64Array>,
  { source, rows }: { source: string; rows?: { index: number; of: number } },
): Float64Array {
  const all = tensors.get(source) as Float64Array
  if (rows === undefined) return all
  const size = all.length / rows.of
  return all.subarray(rows.index * size, (rows.index + 1) * size)
}

async function fold(merged: Map<string, Float64Array>, target: PlacedTarget): Promise<void> {
  const { rank, scaling, kind, fanInFanOut } = target
  const [a, b] = [await values(target.a), await values(target.b)]
  const [out, inner] = [b.length / rank, a.length / rank]
  const w = part(merged, target.weight)
  // in canonical order [out, in]: an embedding and a transposed linear are stored the other way round
  const at = (o: number, i: number) => (kind === 'embedding' || fanInFanOut ? i * out + o : o * inner + i)
  const magnitude = target.magnitude && (await values(target.magnitude))
  for (let o = 0; o < out; o++) {
    let square = 0
    for (let i = 0; i < inner; i++) {
      let product = 0
      for (let r = 0; r < rank; r++) product += b[o * rank + r] * a[r * inner + i]
      w[at(o, i)] += scaling * product
      square += w[at(o, i)] ** 2
    }
    if (magnitude) for (let i = 0; i < inner; i++) w[at(o, i)] *= magnitude[o] / Math.sqrt(square)
  }
  if (target.bias === undefined || target.baseBias === undefined) return
  const bias = part(merged, target.baseBias)
  for (const [o, value] of (await values(target.bias)).entries()) bias[o] += scaling * value
}
