// Every op in float64, written as the formulas of native/ops/args.h stand. Shape letters as there.
import type { Scalar, ScalarTape } from './scalar-tape.js'

/** Row-major scalars. */
export type Values = readonly Scalar[]

export const row = (x: Values, width: number, i: number): Values => x.slice(i * width, (i + 1) * width)
const column = (x: Values, width: number, j: number): Values => Array.from({ length: x.length / width }, (_, i) => x[i * width + j])

/** erf by its series (Abramowitz & Stegun 7.1.6), or the continued fraction of erfc (7.1.14) where that converges. */
export function erf(x: number): number {
  if (Math.abs(x) < 3) {
    let term = x
    let total = x
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(total); ++n) {
      term *= (2 * x * x) / (2 * n + 1)
      total += term
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total
  }
  let fraction = Math.abs(x)
  for (let n = 80; n > 0; --n) fraction = Math.abs(x) + n / 2 / fraction
  return Math.sign(x) * (1 - Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction))
}

export type ActivationName = 'none' | 'quick_gelu' | 'gelu'

function activate(t: ScalarTape, x: Scalar, activation: ActivationName): Scalar {
  const v = t.valueOf(x)
  if (activation === 'quick_gelu') {
    const s = 1 / (1 + Math.exp(-1.702 * v))
    return t.unary(x, v * s, s + 1.702 * v * s * (1 - s))
  }
  if (activation === 'gelu') {
    const normal = 0.5 * (1 + erf(v * Math.SQRT1_2))
    return t.unary(x, v * normal, normal + (v * Math.exp(-0.5 * v * v)) / Math.sqrt(2 * Math.PI))
  }
  return x
}

export interface LowRankReference {
  /** of every adapter */
  a: Values
  b: Values
  bias?: Values
  scale: readonly Scalar[]
  x?: Values
  rank: number
  out: number
  column: number
}

/** s · (x Aᵀ Bᵀ + bias) of one row, in the columns of the delta; nothing for no adapter. */
function addDelta(t: ScalarTape, y: Scalar[], x: Values, d: LowRankReference, adapter: number): void {
  if (adapter < 0) return
  const scale = t.valueOf(d.scale[adapter])
  const low = Array.from({ length: d.rank }, (_, r) => t.dot(x, row(d.a, x.length, adapter * d.rank + r)))
  for (let o = 0; o < d.out; ++o) {
    let v = t.dot(low, row(d.b, d.rank, adapter * d.out + o))
    if (d.bias) v = t.add(v, d.bias[adapter * d.out + o])
    y[d.column + o] = t.add(y[d.column + o], t.affine(v, scale))
  }
}

export interface LinearReference {
  lowRank?: readonly LowRankReference[]
  /** adapter of each row; all 0 when absent */
  adapters?: readonly number[]
  columnScale?: Values
  in: number
  out: number
  transposed?: boolean
  activation?: ActivationName
  bias?: Values
  gate?: Scalar
  residual?: Values
  skip?: Values
}

export function linear(t: ScalarTape, x: Values, w: Values, o: LinearReference): Scalar[] {
  const columns = Array.from({ length: o.out }, (_, j) => (o.transposed ? column(w, o.out, j) : row(w, o.in, j)))
  const y: Scalar[] = []
  for (let m = 0; m < (o.in ? x.length / o.in : 0); ++m) {
    const from = row(x, o.in, m)
    const products = columns.map((c) => t.dot(from, c))
    for (const d of o.lowRank ?? []) addDelta(t, products, d.x ? row(d.x, o.in, m) : from, d, o.adapters?.[m] ?? 0)
    for (let j = 0; j < o.out; ++j) {
      let v = products[j]
      if (o.gate !== undefined) v = t.affine(v, t.valueOf(o.gate)) // no gradient to the gate
      if (o.columnScale) v = t.multiply(v, o.columnScale[j])
      if (o.bias) v = t.add(v, o.bias[j])
      v = activate(t, v, o.activation ?? 'none')
      if (o.residual) v = t.add(v, o.residual[m * o.out + j])
      if (o.skip) v = t.add(v, o.skip[m * o.out + j])
      y.push(v)
    }
  }
  return y
}

export function layerNorm(t: ScalarTape, x: Values, d: number, weight: Values, bias: Values | undefined, eps: number): Scalar[] {
  const y: Scalar[] = []
  for (let m = 0; m < x.length / d; ++m) {
    const from = row(x, d, m)
    const mean = t.affine(t.sum(from), -1 / d)
    const centred = from.map((v) => t.add(v, mean))
    const deviation = t.sqrt(t.affine(t.dot(centred, centred), 1 / d, eps))
    centred.forEach((v, i) => {
      const scaled = t.multiply(t.divide(v, deviation), weight[i])
      y.push(bias ? t.add(scaled, bias[i]) : scaled)
    })
  }
  return y
}

/** log Σ exp, shifted by the largest as a constant. */
function logSumExp(t: ScalarTape, z: Values): Scalar {
  const top = Math.max(...z.map((v) => t.valueOf(v)))
  return t.affine(t.log(t.sum(z.map((v) => t.exp(t.affine(v, 1, -top))))), 1, top)
}

/** Extra keys and values [T, l, D]; of each sample the task, and the weight of its slots. */
export interface BranchReference {
  keys: Values
  values: Values
  length: number
  index?: readonly number[]
  weight?: Values
  joint: boolean
}

export interface AttentionReference {
  heads: number
  width: number
  offsets: readonly number[]
  causal: boolean
  branch?: BranchReference
}

/** softmax(q keysᵀ / √K) values of one head, of several values a key. */
function attend(t: ScalarTape, q: Values, keys: readonly Values[], values: readonly Values[]): Scalar[] {
  const z = keys.map((k) => t.affine(t.dot(q, k), 1 / Math.sqrt(q.length)))
  const lse = t.affine(logSumExp(t, z), -1)
  const p = z.map((v) => t.exp(t.add(v, lse)))
  return q.map((_, k) =>
    t.dot(
      p,
      values.map((v) => v[k]),
    ),
  )
}

/** The slots of one sample and head: rows of keys and of values. */
function slotsOf(o: AttentionReference, b: number, head: number): { keys: Values[]; values: Values[] } {
  if (!o.branch) return { keys: [], values: [] }
  const { keys, values, length, index } = o.branch
  const d = o.heads * o.width
  const part = (x: Values, slot: number): Values => {
    const start = ((index?.[b] ?? 0) * length + slot) * d + head * o.width
    return x.slice(start, start + o.width)
  }
  const slots = Array.from({ length }, (_, slot) => slot)
  return { keys: slots.map((slot) => part(keys, slot)), values: slots.map((slot) => part(values, slot)) }
}

export function attention(t: ScalarTape, qkv: Values, o: AttentionReference): Scalar[] {
  const d = o.heads * o.width
  const part = (i: number, which: number, head: number): Values => {
    const start = (3 * i + which) * d + head * o.width
    return qkv.slice(start, start + o.width)
  }
  const y: Scalar[] = new Array((qkv.length / 3) | 0)
  for (let b = 0; b + 1 < o.offsets.length; ++b) {
    const first = o.offsets[b]
    const end = o.offsets[b + 1]
    for (let head = 0; head < o.heads; ++head) {
      const keys = Array.from({ length: end - first }, (_, j) => part(first + j, 1, head))
      const values = Array.from({ length: end - first }, (_, j) => part(first + j, 2, head))
      const slots = slotsOf(o, b, head)
      for (let i = first; i < end; ++i) {
        const q = part(i, 0, head)
        const seen = o.causal ? i - first + 1 : end - first
        const joined = o.branch?.joint ? slots : { keys: [], values: [] }
        let row = attend(t, q, [...joined.keys, ...keys.slice(0, seen)], [...joined.values, ...values.slice(0, seen)])
        if (o.branch && !o.branch.joint) {
          const weight = o.branch.weight ? t.valueOf(o.branch.weight[b]) : 1 // no gradient to it
          row = attend(t, q, slots.keys, slots.values).map((v, k) => t.add(row[k], t.affine(v, weight)))
        }
        row.forEach((v, k) => {
          y[i * d + head * o.width + k] = v
        })
      }
    }
  }
  return y
}

/** The rows of {@link attention} at `rows`, with every other query at zero. */
export function pooledAttention(
  t: ScalarTape,
  q: Values,
  kv: Values,
  { rows, ...o }: AttentionReference & { rows: readonly number[] },
): Scalar[] {
  const d = o.heads * o.width
  const qkv = Array.from({ length: kv.length / (2 * d) }, (_, i) => {
    const b = rows.indexOf(i)
    const query = b < 0 ? Array.from({ length: d }, () => t.constant(0)) : row(q, d, b)
    return [...query, ...row(kv, 2 * d, i)]
  })
  const y = attention(t, qkv.flat(), o)
  return rows.flatMap((i) => row(y, d, i))
}

export function patchify(pixels: Values, shape: readonly number[], patch: number): Scalar[] {
  const [batch, channels, height, width] = shape
  const y: Scalar[] = []
  for (let b = 0; b < batch; ++b)
    for (let down = 0; down < height; down += patch)
      for (let across = 0; across < width; across += patch)
        for (let c = 0; c < channels; ++c)
          for (let i = 0; i < patch; ++i)
            for (let j = 0; j < patch; ++j) y.push(pixels[((b * channels + c) * height + down + i) * width + across + j])
  return y
}

export function classTokens(t: ScalarTape, x: Values, cls: Values, position: Values, batch: number): Scalar[] {
  const d = cls.length
  const n = position.length / d - 1
  const y: Scalar[] = []
  for (let b = 0; b < batch; ++b)
    for (let token = 0; token <= n; ++token)
      for (let i = 0; i < d; ++i) y.push(t.add(token === 0 ? cls[i] : x[(b * n + token - 1) * d + i], position[token * d + i]))
  return y
}

export function tokenEmbed(
  t: ScalarTape,
  ids: readonly number[],
  positions: readonly number[],
  table: Values,
  position: Values,
  d: number,
): Scalar[] {
  return ids.flatMap((id, m) => row(table, d, id).map((v, i) => t.add(v, position[positions[m] * d + i])))
}

export const gatherRows = (x: Values, d: number, index: readonly number[]): Scalar[] => index.flatMap((i) => row(x, d, i))

export function scaleRows(t: ScalarTape, x: Values, d: number, factor: Values, repeat: number): Scalar[] {
  return x.map((v, i) => t.affine(v, t.valueOf(factor[Math.floor(Math.floor(i / d) / repeat) % factor.length])))
}

export function l2Normalize(t: ScalarTape, x: Values, d: number): Scalar[] {
  const y: Scalar[] = []
  for (let m = 0; m < x.length / d; ++m) {
    const from = row(x, d, m)
    const square = t.dot(from, from)
    const norm = Math.sqrt(t.valueOf(square)) > 1e-12 ? t.sqrt(square) : t.constant(1e-12)
    for (const v of from) y.push(t.divide(v, norm))
  }
  return y
}

export interface ContrastiveReference {
  p: number
  labels: readonly number[]
  scale: Scalar
  logScale: boolean
  margin: number
  epsilon: number
}

export function contrastive(t: ScalarTape, image: Values, text: Values, o: ContrastiveReference): Scalar {
  const n = o.labels.length
  const s = o.logScale ? t.exp(o.scale) : o.scale
  const z = Array.from({ length: n }, (_, i) =>
    Array.from({ length: n }, (_, j) => {
      const cosine = t.dot(row(image, o.p, i), row(text, o.p, j))
      return t.multiply(t.affine(cosine, 1, o.labels[i] === o.labels[j] ? 0 : o.margin), s)
    }),
  )
  const target = (i: number, j: number): number => {
    const positives = o.labels.filter((label) => label === o.labels[i]).length
    const epsilon = positives === n ? 0 : o.epsilon
    return o.labels[j] === o.labels[i] ? (1 - epsilon) / positives : epsilon / (n - positives)
  }
  const rows = z.map((scores) => logSumExp(t, scores))
  const columns = z.map((_, j) =>
    logSumExp(
      t,
      z.map((scores) => scores[j]),
    ),
  )
  // −ỹ_ij (log softmax_j z_ij + log softmax_i z_ij)
  const terms = z.flatMap((scores, i) =>
    scores.map((score, j) => t.affine(t.sum([rows[i], columns[j], t.affine(score, -2)]), target(i, j))),
  )
  return t.affine(t.sum(terms), 0.5 / n)
}

export interface CrossEntropyReference {
  classes: number
  labels?: readonly number[]
  teacher?: Values
  scale?: Scalar
  logScale: boolean
  smoothing: number
  temperature: number
}

export function crossEntropy(t: ScalarTape, logits: Values, o: CrossEntropyReference): Scalar {
  const one = o.scale ?? t.constant(1)
  const s = o.logScale ? t.exp(one) : one
  const n = logits.length / o.classes
  const terms = Array.from({ length: n }, (_, i) => {
    const z = row(logits, o.classes, i).map((v) => t.affine(t.multiply(v, s), 1 / o.temperature))
    const lse = logSumExp(t, z)
    const teacher = o.teacher && row(o.teacher, o.classes, i).map((v) => (t.valueOf(v) * t.valueOf(s)) / o.temperature)
    const top = teacher ? Math.max(...teacher) : 0
    const total = teacher?.reduce((sum, v) => sum + Math.exp(v - top), 0) ?? 1
    const target = (c: number) =>
      teacher ? Math.exp(teacher[c] - top) / total : (o.labels?.[i] === c ? 1 - o.smoothing : 0) + o.smoothing / o.classes
    return t.sum(z.map((v, c) => t.affine(t.add(lse, t.affine(v, -1)), target(c)))) // a constant to the gradient
  })
  return t.affine(t.sum(terms), o.temperature ** 2 / n)
}
