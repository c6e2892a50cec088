// bf16 and its rounding, to nearest even, in plain TypeScript.
import type { FloatDType } from '../../lib/native.js'

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

function bf16Of(value: number): number {
  float[0] = value
  if (Number.isNaN(value)) return 0x7fc0
  return ((bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) >>> 16) & 0xffff
}

function floatOf(half: number): number {
  bits[0] = half << 16
  return float[0]
}

export const bf16Bits = (values: ArrayLike<number>): Uint16Array => Uint16Array.from(values, bf16Of)
export const floatsOfBf16 = (halves: Uint16Array): Float32Array => Float32Array.from(halves, floatOf)
export const roundTo = (dtype: FloatDType, value: number): number => (dtype === 'f32' ? Math.fround(value) : floatOf(bf16Of(value)))
