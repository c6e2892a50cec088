// Runs one case of the table through the library and compares with its float64 reference.
//
// Each case is run with every trainable input a parameter (twice, so that parameter gradients must add up), with values
// in flight used twice (so that kernels must accumulate), and with one trainable input at a time (so that what is not
// wanted is not needed).
import { type FloatDType, native } from '../../lib/native.js'
import { cast, reshape } from '../../lib/ops.js'
import { backward, Parameter, step, Tensor } from '../../lib/tensor.js'
import { bf16Bits, floatsOfBf16, roundTo } from './bf16.js'
import { type Case, F32, type Input } from './case.js'
import { normals, seedOf } from './normals.js'
import { type Scalar, ScalarTape } from './scalar-tape.js'

export interface Compared {
  /** what is farther from the reference than it may be */
  failures: string[]
  /** largest relative errors */
  forward: number
  gradient: number
  /** every result, for the comparison of bits */
  bytes: Uint8Array[]
}

type Numbers = Float64Array | Float32Array

/** ‖result − reference‖ / ‖reference‖; infinite where a zero reference is not met exactly. */
export function relativeError(result: Numbers, reference: Numbers): number {
  if (result.length !== reference.length) return Number.POSITIVE_INFINITY
  let error = 0
  let norm = 0
  reference.forEach((r, i) => {
    error += (result[i] - r) ** 2
    norm += r * r
  })
  if (norm === 0) return error === 0 ? 0 : Number.POSITIVE_INFINITY
  return Math.sqrt(error / norm)
}

/** Values in the type they will have on the device. */
export function draw(c: Case, dtype: FloatDType): Record<string, Float32Array> {
  const out: Record<string, Float32Array> = {}
  for (const [name, input] of Object.entries(c.inputs)) {
    const size = input.shape.reduce((product, n) => product * n, 1)
    const { values } = input
    const exact =
      'spread' in values ? normals(seedOf(`${c.name} ${name}`), size).map((z) => values.spread * z + (values.centre ?? 0)) : values
    out[name] = Float32Array.from(exact, (v) => roundTo(input.operand ? dtype : 'f32', v))
  }
  return out
}

export interface Expected {
  forward: Float64Array
  seeds: Float32Array
  gradients: Record<string, Float64Array>
}

/** A case with everything that does not depend on how it is run. */
export interface Prepared {
  c: Case
  dtype: FloatDType
  values: Record<string, Float32Array>
  want: Expected
}

export function expected(c: Case, values: Record<string, ArrayLike<number>>, result: FloatDType): Expected {
  const tape = new ScalarTape()
  const scalars: Record<string, Scalar[]> = {}
  for (const [name, v] of Object.entries(values)) scalars[name] = Array.from(v, (x) => tape.constant(x))
  const y = c.reference(tape, scalars)
  const seeds = Float32Array.from(normals(seedOf(`${c.name} seeds`), y.length), (z) => roundTo(result, z))
  const all = tape.gradients(y, seeds)
  const gradients: Record<string, Float64Array> = {}
  for (const [name, nodes] of Object.entries(scalars)) gradients[name] = Float64Array.from(nodes, (node) => all[node])
  return { forward: Float64Array.from(y, (node) => tape.valueOf(node)), seeds, gradients }
}

async function floats(t: Tensor): Promise<Float32Array> {
  return t.dtype === 'bf16' ? floatsOfBf16((await t.data()) as Uint16Array) : t.floats()
}

class Run {
  readonly parameters: Record<string, Parameter> = {}

  constructor(
    private readonly c: Case,
    private readonly dtype: FloatDType,
    private readonly values: Record<string, Float32Array>,
    trains: readonly string[],
  ) {
    for (const name of trains) {
      const parameter = Parameter.named(name, values[name], c.inputs[name].shape)
      parameter.trainable = true
      this.parameters[name] = parameter
    }
  }

  /** The input as the op sees it; `inFlight` makes even f32 ones values rather than parameters. */
  private input(name: string, input: Input, inFlight: boolean): Tensor {
    const parameter = this.parameters[name]
    if (parameter) {
      if (input.operand && this.dtype === 'bf16') return cast(parameter, 'bf16')
      return inFlight ? reshape(parameter, input.shape) : parameter
    }
    const values = this.values[name]
    if (input.index) return Tensor.from(Int32Array.from(values), input.shape, 'i32')
    if (input.operand && this.dtype === 'bf16') return Tensor.from(bf16Bits(values), input.shape, 'bf16')
    return Tensor.from(values, input.shape)
  }

  /** The result, with the op applied `uses` times to the same values; backward from all of them when there are seeds. */
  step(seeds: Float32Array | undefined, uses: number): Promise<Tensor> {
    return step(() => {
      const inputs: Record<string, Tensor> = {}
      for (const [name, input] of Object.entries(this.c.inputs)) inputs[name] = this.input(name, input, uses > 1)
      const outputs = Array.from({ length: uses }, () => this.c.run(inputs, this.dtype))
      if (seeds) {
        const seed = Tensor.from(seeds, outputs[0].shape)
        backward(outputs, Array(uses).fill(seed))
      }
      return outputs[0]
    })
  }

  async gradient(name: string): Promise<Float32Array> {
    const { gradient } = this.parameters[name]
    if (!gradient) return new Float32Array()
    const values = await gradient.floats()
    gradient.dispose()
    return values
  }

  dispose(): void {
    for (const parameter of Object.values(this.parameters)) parameter.dispose()
  }
}

/** Seeds are rounded to the type of the result: what the tape would do to them. */
async function resultType(c: Case, dtype: FloatDType, values: Record<string, Float32Array>): Promise<FloatDType> {
  const y = await new Run(c, dtype, values, []).step(undefined, 1)
  const type = y.dtype as FloatDType
  y.dispose()
  return type
}

export async function prepare(c: Case, dtype: FloatDType): Promise<Prepared> {
  const values = draw(c, dtype)
  return { c, dtype, values, want: expected(c, values, await resultType(c, dtype, values)) }
}

export async function checkCase({ c, dtype, values, want }: Prepared): Promise<Compared> {
  const tolerance = dtype === 'f32' ? (c.f32 ?? F32) : c.bf16
  if (!tolerance) throw new Error(`${c.name}: no tolerance for ${dtype}`)
  const trains = Object.keys(c.inputs).filter((name) => c.inputs[name].trains)
  const out: Compared = { failures: [], forward: 0, gradient: 0, bytes: [] }
  const compare = (what: string, result: Float32Array, reference: Float64Array, kind: 'forward' | 'gradient', bound: number) => {
    const error = relativeError(result, reference)
    out[kind] = Math.max(out[kind], error)
    out.bytes.push(new Uint8Array(result.buffer, result.byteOffset, result.byteLength))
    if (!(error <= bound)) out.failures.push(`${what}: relative error ${error.toExponential(2)}, at most ${bound.toExponential(1)}`)
  }
  const plans = [{ how: 'parameters', trains, uses: 1, repeats: 2 }]
  if (trains.length > 0) plans.push({ how: 'used twice', trains, uses: 2, repeats: 1 })
  if (trains.length > 1) for (const name of trains) plans.push({ how: `only ${name} trains`, trains: [name], uses: 1, repeats: 1 })
  for (const plan of plans) {
    const run = new Run(c, dtype, values, plan.trains)
    for (let repeat = 1; repeat <= plan.repeats; ++repeat) {
      const y = await run.step(want.seeds, plan.uses)
      compare(`${plan.how}: result`, await floats(y), want.forward, 'forward', tolerance.forward)
      y.dispose()
      for (const name of plan.trains) {
        const times = want.gradients[name].map((g) => g * plan.uses * repeat)
        compare(`${plan.how}, pass ${repeat}: gradient of ${name}`, await run.gradient(name), times, 'gradient', tolerance.gradient)
      }
    }
    run.dispose()
  }
  return out
}

/** Bytes and tensors alive: a case must leave nothing behind. */
export function alive(): { live: number; tensors: number } {
  const { live, tensors } = native.memory()
  return { live, tensors }
}
