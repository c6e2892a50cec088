/** Low-rank forms of matrices. */
import { native } from '../native.js'

/** Δ ≈ B A: b [out, rank], a [rank, in], and how much of Δ it keeps. */
export interface LowRankForm {
  readonly a: Float32Array
  readonly b: Float32Array
  /** Σ of the kept s² over Σ of all: ‖B A‖² / ‖Δ‖² */
  readonly energy: number
  /** ‖Δ − B A‖ / ‖Δ‖ */
  readonly error: number
}

/** Factors of Δ = B A. */
export interface Factors {
  /** [out, total] */
  readonly b: Float64Array
  /** [total, inner] */
  readonly a: Float64Array
  readonly out: number
  readonly total: number
  readonly inner: number
}

/** Above this smaller side a random subspace replaces the whole decomposition. */
const EXACT_SIDE = 1024

/**
 * The best approximation of a rank (Eckart and Young, 1936), by SVD.
 * @param balanced √s on both sides; else, as PEFT does, s on B's
 * @param exact never use a random subspace
 */
export async function lowRankOf(
  delta: Float32Array | Float64Array,
  out: number,
  inner: number,
  rank: number,
  options: { balanced?: boolean; exact?: boolean } = {},
): Promise<LowRankForm> {
  const least = Math.min(out, inner)
  const k = Math.min(rank, least)
  const randomized = !options.exact && least > EXACT_SIDE && k < least / 4
  const { u, s, v } = await native.svd({
    a: delta,
    m: out,
    n: inner,
    rank: k,
    ...(randomized && { randomized: { oversample: 32, iterations: 6 } }),
  })
  const total = squares(delta)
  const kept = squares(s)
  const energy = total === 0 ? 1 : Math.min(1, kept / total)
  const b = new Float32Array(out * rank)
  const a = new Float32Array(rank * inner)
  for (let r = 0; r < k; r++) {
    const [left, right] = options.balanced ? [Math.sqrt(s[r]), Math.sqrt(s[r])] : [s[r], 1]
    for (let i = 0; i < out; i++) b[i * rank + r] = u[i * k + r] * left
    for (let j = 0; j < inner; j++) a[r * inner + j] = v[j * k + r] * right
  }
  return { a, b, energy, error: Math.sqrt(Math.max(0, 1 - energy)) }
}

/**
 * The same for Δ = B A with a total rank of at most both sides, without forming Δ: QR of B and of Aᵀ, then the SVD of the small
 * product of their triangles.
 */
export async function lowRankOfProduct({ b, a, out, total, inner }: Factors, rank: number): Promise<LowRankForm> {
  const left = await native.qr({ a: b, m: out, n: total })
  const right = await native.qr({ a: transpose(a, total, inner), m: inner, n: total })
  const core = multiply(left.r, transpose(right.r, total, total), total, total, total)
  const k = Math.min(rank, total)
  const { u, s, v } = await native.svd({ a: core, m: total, n: total })
  const energies = s.map((x) => x * x)
  const [all, kept] = [energies.reduce((x, y) => x + y, 0), energies.subarray(0, k).reduce((x, y) => x + y, 0)]
  const energy = all === 0 ? 1 : kept / all
  const [wideB, wideA] = [multiply(left.q, u, out, total, total), multiply(right.q, v, inner, total, total)]
  const formB = new Float32Array(out * rank)
  const formA = new Float32Array(rank * inner)
  for (let r = 0; r < k; r++) {
    for (let i = 0; i < out; i++) formB[i * rank + r] = wideB[i * total + r] * s[r]
    for (let j = 0; j < inner; j++) formA[r * inner + j] = wideA[j * total + r]
  }
  return { a: formA, b: formB, energy, error: Math.sqrt(Math.max(0, 1 - energy)) }
}

function squares(values: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i]
  return sum
}

function transpose(x: Float64Array, rows: number, columns: number): Float64Array {
  const out = new Float64Array(x.length)
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j]
  return out
}

/** [m, k] · [k, n]; the sides here are ranks, but for one. */
function multiply(a: Float64Array, b: Float64Array, m: number, k: number, n: number): Float64Array {
  const out = new Float64Array(m * n)
  for (let i = 0; i < m; i++)
    for (let r = 0; r < k; r++) {
      const x = a[i * k + r]
      for (let j = 0; j < n; j++) out[i * n + j] += x * b[r * n + j]
    }
  return out
}
