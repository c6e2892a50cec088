// The parts of one LoRA module: factors that train, their scale, and what the start or DoRA keeps beside them.
import type { Clip } from '../models/clip.js'
import { placeOf } from '../models/weights.js'
import { lowRankNorm } from '../ops.js'
import { Parameter, scope, type Tensor } from '../tensor.js'
import { type LoraInit, loraStart } from './lora-init.js'
import type { LoraTarget } from './lora-targets.js'

export interface LoraModuleOptions {
  dora?: boolean
  bias?: boolean
  init?: LoraInit
  seed?: number
}

/** What is added to a linear; tensors f32. */
export interface LoraFactors {
  /** [R, in] and [out, R] */
  readonly a: Tensor
  readonly b: Tensor
  /** [out] */
  readonly bias?: Tensor
  /** m of DoRA, [out] */
  readonly magnitude?: Tensor
}

export interface LoraModule extends LoraTarget {
  /** named `<module>.lora_A.weight`, … */
  readonly factors: { readonly [name in keyof LoraFactors]: Parameter }
  /** s, [1] */
  readonly scale: Parameter
  /** −s B₀ A₀, of the starts that take it off again */
  readonly start?: { readonly a: Parameter; readonly b: Parameter; readonly scale: Parameter }
  /** ‖W‖ by rows, with DoRA */
  readonly norm?: Parameter
}

/** The factors as they are, or their running averages. */
export function currentFactors({ factors }: LoraModule, averages?: ReadonlyMap<string, Tensor>): LoraFactors {
  const now = (parameter: Parameter) => averages?.get(parameter.name) ?? parameter
  const { a, b, bias, magnitude } = factors
  return {
    a: now(a as Parameter),
    b: now(b as Parameter),
    ...(bias && { bias: now(bias) }),
    ...(magnitude && { magnitude: now(magnitude) }),
  }
}

export async function magnitudeAt({ norm }: LoraModule, magnitude: Tensor, alpha: number): Promise<Float32Array> {
  const [start, end] = [await (norm as Parameter).floats(), await magnitude.floats()]
  return start.map((m, i) => m + alpha * (end[i] - m))
}

/** Makes a module at its start. @param order among all: part of the key of its random draws */
export async function makeModule(clip: Clip, target: LoraTarget, options: LoraModuleOptions, order: number): Promise<LoraModule> {
  const { module, in: width, out, rank, scaling } = target
  const named = (part: string, data: Float32Array | null, shape: number[]) => Parameter.named(`${module}.${part}`, data, shape)
  const weight = () => clip.weights.floats(`${module}.weight`)
  const { a, b, offset } = await loraStart(options.init ?? 'kaiming', target, weight, { seed: options.seed ?? 0, order })
  const norm = options.dora ? await rowNorms(clip, target) : undefined
  const factors = {
    a: named('lora_A.weight', a, [rank, width]),
    b: named('lora_B.weight', b, [out, rank]),
    ...(options.bias && { bias: named('lora_B.bias', null, [out]) }),
    ...(norm && { magnitude: named('lora_magnitude_vector', norm, [out]) }),
  }
  const scalar = (name: string, value: number) => named(name, Float32Array.of(value), [1])
  const start = offset && { a: named('start_A', a, [rank, width]), b: named('start_B', b, [out, rank]), scale: scalar('start_s', -scaling) }
  return {
    ...target,
    factors,
    scale: scalar('scale', scaling),
    ...(start && { start }),
    ...(norm && { norm: named('norm', norm, [out]) }),
  }
}

/** ‖W‖ of every row, of the weight on the device. */
async function rowNorms(clip: Clip, { module, out }: LoraTarget): Promise<Float32Array> {
  const { name, third = 0 } = placeOf(`${module}.weight`)
  const norm = scope(() => lowRankNorm(clip.weights.get(name), { row: third * out, rows: out }))
  const values = await norm.floats()
  norm.dispose()
  return values
}

export function disposeModule({ factors, scale, start, norm }: LoraModule): void {
  for (const parameter of [...Object.values(factors), scale, norm, ...Object.values(start ?? {})]) parameter?.dispose()
}
