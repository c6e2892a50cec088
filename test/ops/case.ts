// What a case of the op table says: inputs, the op, its reference in float64, and how close they must be.
import type { FloatDType } from '../../lib/native.js'
import type { Tensor } from '../../lib/tensor.js'
import type { Scalar, ScalarTape } from './scalar-tape.js'

export interface Input {
  readonly shape: readonly number[]
  /** what to draw it from, or its values */
  readonly values: { spread: number; centre?: number } | readonly number[]
  /** a gradient is asked for */
  readonly trains?: boolean
  /** the op holds a part of what it does constant, so its gradient is not the difference of results */
  readonly partlyConstant?: boolean
  /** bf16 in the bf16 run; f32 otherwise */
  readonly operand?: boolean
  /** i32: indices, offsets, labels */
  readonly index?: boolean
}

/** Largest ‖Δ‖/‖reference‖ of the result, and of each gradient. */
export interface Tolerance {
  readonly forward: number
  readonly gradient: number
}

export interface Case {
  readonly name: string
  readonly inputs: Readonly<Record<string, Input>>
  run(t: Record<string, Tensor>, dtype: FloatDType): Tensor
  reference(t: ScalarTape, v: Record<string, Scalar[]>): Scalar[]
  readonly f32?: Tolerance
  /** absent: the op takes f32 only */
  readonly bf16?: Tolerance
}

/** docs/architecture.md §6. */
export const F32: Tolerance = { forward: 1e-5, gradient: 3e-5 }
/** One rounding to bf16 of the result and one of its gradient: 1.7e-3 on average, and the sum of two. */
export const BF16: Tolerance = { forward: 2.5e-3, gradient: 4e-3 }

export const drawn = (shape: readonly number[], options: Partial<Input> & { spread?: number; centre?: number } = {}): Input => {
  const { spread = 1, centre = 0, ...rest } = options
  return { shape, values: { spread, centre }, trains: true, ...rest }
}
export const given = (values: readonly number[], options: Partial<Input> = {}): Input => ({ shape: [values.length], values, ...options })
export const indices = (values: readonly number[]): Input => given(values, { index: true })
