/**
 * The two directions between canonical tensors and a checkpoint's: which bytes to read for each canonical tensor, and which
 * canonical tensors make up each tensor to write.
 */

import { nearestName } from '../checks/nearest-name.js'
import { CambiumError } from '../errors.js'
import type { TensorRead } from '../native.js'
import type { Shape } from './clip-tensors.js'
import { DTYPE_BITS, isReadableDtype } from './dtype.js'
import type { Layout, Placement } from './layouts.js'
import { type StoredTensor, storedRequest } from './safetensors-read.js'

/** How to read one canonical tensor. */
export interface WeightRead {
  readonly name: string
  readonly shape: Shape
  /** Absolute, in bytes, into `source.path`. */
  readonly offset: number
  /** Elements. */
  readonly count: number
  /** When set, the file holds [transposeRows, count / transposeRows], the transpose of `shape`. */
  readonly transposeRows?: number
  readonly source: StoredTensor
}

/** How to write one tensor of a file. */
export interface WeightWrite {
  readonly name: string
  readonly shape: Shape
  /** Canonical tensors whose rows follow one another. */
  readonly parts: readonly string[]
  /** The one part is to be transposed. */
  readonly transpose: boolean
}

export interface WeightMap {
  readonly layout: Layout
  /** By canonical name. */
  readonly reads: ReadonlyMap<string, WeightRead>
}

/**
 * Finds each of `wanted` (canonical name -> shape) in `stored`.
 * Errors: E_CHECKPOINT lists missing and unexpected tensors with the nearest match; E_SHAPE names a tensor and both shapes;
 * E_DTYPE names a type that holds no weights (8-bit floats, complex numbers).
 */
export function mapWeights(stored: ReadonlyMap<string, StoredTensor>, wanted: ReadonlyMap<string, Shape>, layout: Layout): WeightMap {
  const reads = new Map<string, WeightRead>()
  const used = new Set<string>()
  const missing = new Set<string>()
  for (const [name, shape] of wanted) {
    const placement = layout.place(name)
    const source = placement === undefined ? undefined : stored.get(placement.source)
    if (placement === undefined || source === undefined) {
      missing.add(placement?.source ?? name)
      continue
    }
    used.add(placement.source)
    reads.set(name, readOf(name, shape, placement, source))
  }
  const unexpected = [...stored.values()].filter(({ name }) => !used.has(name) && !layout.ignores(name))
  if (missing.size > 0 || unexpected.length > 0) throw mismatch([...missing], unexpected, layout)
  return { layout, reads }
}

function readOf(name: string, shape: Shape, placement: Placement, source: StoredTensor): WeightRead {
  const expected = sourceShape(shape, placement)
  const scalar = shape.length === 0 && source.count === 1 // logit_scale is [] or [1]
  if (!scalar && !sameShape(expected, source.shape)) {
    throw new CambiumError('E_SHAPE', `${source.name}: expected shape [${expected}], got [${source.shape}] in ${source.path}`)
  }
  if (!isReadableDtype(source.dtype))
    throw new CambiumError('E_DTYPE', `${source.name}: expected F32, F16, BF16 or F64, got ${source.dtype}`)
  const count = shape.reduce((product, side) => product * side, 1)
  const skipped = (placement.rows?.index ?? 0) * count * (DTYPE_BITS[source.dtype] / 8)
  const read = { name, shape, count, source, offset: source.offset + skipped }
  return placement.transpose === true ? { ...read, transposeRows: source.shape[0] } : read
}

function sourceShape(shape: Shape, placement: Placement): Shape {
  if (placement.transpose === true) return [...shape].reverse()
  if (placement.rows !== undefined) return [shape[0] * placement.rows.of, ...shape.slice(1)]
  return shape
}

function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((side, axis) => side === b[axis])
}

function mismatch(missing: readonly string[], unexpected: readonly StoredTensor[], layout: Layout): CambiumError {
  const names = unexpected.map((tensor) => tensor.name)
  const lines = missing.slice(0, 8).map((name) => {
    const near = nearestName(name, names.slice(0, 1000))
    return `  missing ${name}${near === undefined ? '' : `, nearest in the file: ${near}`}`
  })
  lines.push(...names.slice(0, 8).map((name) => `  unexpected ${name}`))
  const counts = `${missing.length} missing and ${names.length} unexpected`
  return new CambiumError(
    'E_CHECKPOINT',
    `checkpoint: expected the tensors that the configuration asks for (layout ${layout.name}), got ${counts}:\n${lines.join('\n')}`,
    {
      details: { missing, unexpected: names },
    },
  )
}

/** The same as the native core's request; it converts to the type of what it is read into. */
export function readRequest({ source, offset, count, transposeRows }: WeightRead): TensorRead {
  return { ...storedRequest(source), offset, count, transposeRows }
}

/**
 * The tensors of a file in `layout` that hold `shapes` (canonical name -> shape). Throws E_CHECKPOINT when the layout cannot
 * hold one, or when only some rows of a packed tensor are given.
 */
export function planWrites(layout: Layout, shapes: ReadonlyMap<string, Shape>): WeightWrite[] {
  const packed = new Map<string, { shape: Shape; parts: string[]; of: number; transpose: boolean }>()
  for (const [name, shape] of shapes) {
    const placement = layout.place(name)
    if (placement === undefined) throw new CambiumError('E_CHECKPOINT', `${name}: expected a tensor that layout ${layout.name} can hold`)
    const { index, of } = placement.rows ?? { index: 0, of: 1 }
    const entry = packed.get(placement.source) ?? {
      shape: sourceShape(shape, placement),
      parts: [],
      of,
      transpose: placement.transpose === true,
    }
    entry.parts[index] = name
    packed.set(placement.source, entry)
  }
  return [...packed].map(([name, { shape, parts, of, transpose }]) => {
    const complete = parts.length === of && Object.keys(parts).length === of
    if (!complete) throw new CambiumError('E_CHECKPOINT', `${name}: expected all ${of} parts, got ${Object.values(parts).join(', ')}`)
    return { name, shape, parts, transpose }
  })
}
