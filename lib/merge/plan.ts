/**
 * From edits to files. A file whose tensors keep their shapes and types keeps its header, its order and every byte of what is
 * not edited; otherwise its header is written anew, in the same order.
 */

import { basename } from 'node:path'
import { CambiumError } from '../errors.js'
import { FileHandle } from '../files.js'
import { type DiskDtype, DTYPE_BITS, isMergeable } from '../formats/dtype.js'
import { openSafetensors, type SafetensorsFile, type StoredTensor } from '../formats/safetensors-read.js'
import { encodeHeader } from '../formats/safetensors-write.js'
import type { MergePlan, MergeSegment } from '../native.js'
import { type Edits, matrixOf, type TensorEdit } from './edits.js'

export interface FilePlan {
  /** of the file in its folder */
  readonly name: string
  readonly plan: Omit<MergePlan, 'target'>
  /** what the file holds afterwards */
  readonly tensors: readonly Placed[]
}

/** A tensor of the result. */
export interface Placed {
  readonly name: string
  readonly dtype: DiskDtype
  readonly shape: readonly number[]
  readonly bytes: number
  readonly changed: boolean
}

/** @param dtype of every float tensor; undefined: as each is */
export async function planFiles(edits: Edits, dtype: DiskDtype | undefined): Promise<FilePlan[]> {
  const plans: FilePlan[] = []
  for (const [i, path] of edits.checkpoint.files.entries()) {
    const last = i === edits.checkpoint.files.length - 1
    plans.push(await planFile(await openSafetensors(path), edits, dtype, last ? [...edits.added] : []))
  }
  return plans
}

interface Output extends Placed {
  readonly source: StoredTensor
  readonly edit: TensorEdit | undefined
}

async function planFile(
  file: SafetensorsFile,
  edits: Edits,
  dtype: DiskDtype | undefined,
  added: readonly (readonly [string, StoredTensor])[],
): Promise<FilePlan> {
  const before = [...file.tensors.values()].sort((a, b) => a.offset - b.offset)
  const outputs = before
    .filter(({ name }) => !edits.removed.has(name))
    .map((tensor) => output(tensor, edits.tensors.get(tensor.name), dtype))
  for (const [name, tensor] of added) outputs.push({ ...output(tensor, undefined, dtype), name, changed: true })
  const same =
    added.length === 0 && outputs.every(({ dtype, shape }, i) => dtype === before[i].dtype && shape.join() === before[i].shape.join())
  const first = before[0]?.offset ?? file.size
  const header = same ? await firstBytes(file, first) : encodeHeader(outputs, Object.fromEntries(file.metadata))
  const sources = [{ path: file.path, size: file.size }]
  const segments: MergeSegment[] = []
  let at = header.byteLength
  for (const out of outputs) {
    append(segments, segmentOf(out, at, sources))
    at += out.bytes
  }
  return { name: basename(file.path), plan: { sources, header, size: at, segments }, tensors: outputs }
}

function output(source: StoredTensor, edit: TensorEdit | undefined, dtype: DiskDtype | undefined): Output {
  const values = edit?.replaced ?? source
  // A tensor of another shape is another tensor: it brings its own type along.
  const own = values.shape.join() === source.shape.join() ? source.dtype : values.dtype
  const type = edit?.dtype ?? (dtype !== undefined && isMergeable(own) ? dtype : own)
  const { name } = source
  if (edit !== undefined && edit.steps.length > 0 && !isMergeable(source.dtype))
    throw new CambiumError('E_DTYPE', `${name}: expected F32, F16, BF16 or F64 to merge into, got ${source.dtype}`)
  const bytes = (values.count * DTYPE_BITS[type]) / 8
  return { name, dtype: type, shape: values.shape, bytes, changed: edit !== undefined || type !== source.dtype, source: values, edit }
}

function segmentOf(out: Output, to: number, sources: { path: string; size: number }[]): MergeSegment {
  const { source, edit, name } = out
  const indexOf = ({ path, fileSize }: StoredTensor) => {
    const found = sources.findIndex((one) => one.path === path)
    return found >= 0 ? found : sources.push({ path, size: fileSize }) - 1
  }
  const segment = { source: indexOf(source), from: source.offset, to, bytes: source.bytes }
  const steps = edit?.steps ?? []
  if (edit?.combined !== undefined && source.count > 0) {
    const inputs = edit.combined.inputs.map((input) => ({ source: indexOf(input), from: input.offset, type: input.dtype }))
    return { ...segment, combine: { name, count: source.count, toType: out.dtype, inputs, options: edit.combined.options } }
  }
  if (source.count === 0 || (steps.length === 0 && source.dtype === out.dtype)) return segment
  if (!isMergeable(source.dtype) || !isMergeable(out.dtype))
    throw new CambiumError('E_DTYPE', `${name}: expected a float type to convert to ${out.dtype}, got ${source.dtype}`)
  return { ...segment, fold: { name, ...matrixOf(source), fromType: source.dtype, toType: out.dtype, steps } }
}

/** Neighbours that are copied become one. */
function append(segments: MergeSegment[], next: MergeSegment): void {
  const last = segments.at(-1)
  if (next.bytes === 0) return
  const computed = (segment: MergeSegment) => segment.fold !== undefined || segment.combine !== undefined
  const follows =
    last !== undefined && !computed(last) && !computed(next) && last.source === next.source && last.from + last.bytes === next.from
  if (follows && last.to + last.bytes === next.to) last.bytes += next.bytes
  else segments.push({ ...next })
}

async function firstBytes(file: SafetensorsFile, length: number): Promise<Uint8Array> {
  const handle = await FileHandle.open(file.path)
  try {
    const bytes = new Uint8Array(length)
    const { bytesRead } = await handle.read(bytes, 0, length, 0)
    if (bytesRead !== length)
      throw new CambiumError('E_FILE_CHANGED', `${file.path}: expected a header of ${length} bytes, got ${bytesRead}`)
    return bytes
  } finally {
    await handle.close()
  }
}
