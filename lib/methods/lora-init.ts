// Where a LoRA starts. Kaiming and Gaussian: B = 0, the model is unchanged. PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz
// 2024) start at parts of the weight itself, s B₀ A₀, and train in what is left of it: W + s (B A − B₀ A₀). That is the same
// function as PEFT's, which writes W − s B₀ A₀ in W's place, but W stays as it is, whatever its type.
import { native } from '../native.js'
import type { LoraTarget } from './lora-targets.js'

export const LORA_INITS = ['kaiming', 'gaussian', 'pissa', 'olora'] as const
export type LoraInit = (typeof LORA_INITS)[number]

/** Row-major, a [R, in], b [out, R]. */
export interface LoraStart {
  readonly a: Float32Array
  readonly b: Float32Array
  /** B₀ A₀ is taken off again */
  readonly offset: boolean
}

const RANDOM_SITE = 0x0010a001

/**
 * @param weight [out, in] of the pretrained model; read by PiSSA and OLoRA
 * @param order of the target among all: part of the key of its random draws
 */
export async function loraStart(
  init: LoraInit,
  target: Pick<LoraTarget, 'in' | 'out' | 'rank' | 'scaling'>,
  weight: () => Promise<Float32Array>,
  { seed, order }: { seed: number; order: number },
): Promise<LoraStart> {
  const { in: width, out, rank, scaling } = target
  if (init === 'pissa') return pissa(await weight(), out, width, rank, scaling)
  if (init === 'olora') return olora(await weight(), out, width, rank)
  const uniform = native.random(seed, order, RANDOM_SITE, 2 * rank * width, 0)
  const bound = 1 / Math.sqrt(width) // Kaiming-uniform with a = √5, as torch's Linear
  const a =
    init === 'kaiming'
      ? uniform.slice(0, rank * width).map((u) => (2 * u - 1) * bound)
      : Float32Array.from({ length: rank * width }, (_, i) => normal(uniform[2 * i], uniform[2 * i + 1]) / rank)
  return { a, b: new Float32Array(out * rank), offset: false }
}

/** Box and Muller 1958. */
const normal = (u: number, v: number) => Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(2 * Math.PI * v)

/** The first R singular values and vectors: A = √(S / s) Vᵀ, B = U √(S / s). */
async function pissa(w: Float32Array, out: number, width: number, rank: number, scaling: number): Promise<LoraStart> {
  const { u, s, v } = await native.svd({ a: w, m: out, n: width, rank })
  const root = Array.from(s.subarray(0, rank), (value) => Math.sqrt(value / scaling))
  const k = u.length / out
  const a = Float32Array.from({ length: rank * width }, (_, i) => root[Math.floor(i / width)] * v[(i % width) * k + Math.floor(i / width)])
  const b = Float32Array.from({ length: out * rank }, (_, i) => root[i % rank] * u[Math.floor(i / rank) * k + (i % rank)])
  return { a, b, offset: true }
}

/** The first R columns of Q and rows of R. */
async function olora(w: Float32Array, out: number, width: number, rank: number): Promise<LoraStart> {
  const { q, r } = await native.qr({ a: w, m: out, n: width })
  const k = q.length / out
  const b = Float32Array.from({ length: out * rank }, (_, i) => q[Math.floor(i / rank) * k + (i % rank)])
  return { a: Float32Array.from(r.subarray(0, rank * width)), b, offset: true }
}
