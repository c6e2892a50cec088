/** Element types as safetensors names them, and their sizes. */

/** Bits of an element. The alignment used by the writer is whole bytes, at least one. */
export const DTYPE_BITS = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
} as const

/** A type that a file may hold. */
export type DiskDtype = keyof typeof DTYPE_BITS

/** Types that merging computes with: floats of 16 bits and more. */
export function isMergeable(name: string): boolean {
  return ['F64', 'F32', 'F16', 'BF16'].includes(name)
}

/** Float types that checkpoints are written in, and how a file names them. */
export const WRITTEN_DTYPES = { f32: 'F32', bf16: 'BF16', f16: 'F16' } as const satisfies Record<string, DiskDtype>

/** Of what is written: each tensor's as in the file it came from, or one for all. */
export type WrittenDtype = 'file' | keyof typeof WRITTEN_DTYPES

export function isDiskDtype(name: unknown): name is DiskDtype {
  return typeof name === 'string' && Object.hasOwn(DTYPE_BITS, name)
}

/** Types that the native core reads and converts. */
export type ReadableDtype = 'BOOL' | 'U8' | 'I8' | 'I16' | 'U16' | 'F16' | 'BF16' | 'I32' | 'U32' | 'F32' | 'I64' | 'U64' | 'F64'

const READABLE: ReadonlySet<string> = new Set(['BOOL', 'U8', 'I8', 'I16', 'U16', 'F16', 'BF16', 'I32', 'U32', 'F32', 'I64', 'U64', 'F64'])

export function isReadableDtype(name: string): name is ReadableDtype {
  return READABLE.has(name)
}
