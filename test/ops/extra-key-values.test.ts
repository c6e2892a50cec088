import { createHash } from 'node:crypto'
import type { ExtraKeyValues, Rows } from '../../lib/ops.js'
import * as ops from '../../lib/ops.js'
import { backward, Parameter, scope, step, Tensor } from '../../lib/tensor.js'
import { bf16Bits } from './bf16.js'
import { normals } from './normals.js'

// Identities of attention with extra keys and values (DIKI's residual branch; references: the paper's §3.2 and args.h).
const LENGTHS = [40, 7, 0, 19]
const [HEADS, WIDTH, SLOTS, TASKS] = [2, 24, 8, 3]
const D = HEADS * WIDTH
const M = LENGTHS.reduce((a, b) => a + b)
const SIZE = TASKS * SLOTS * D

interface Bank {
  keys: Float32Array
  values: Float32Array
  index?: readonly number[]
  weight?: readonly number[]
  softmax?: 'separate' | 'joint'
}

const bank = (changes: Partial<Bank> = {}): Bank => ({
  keys: Float32Array.from(normals(1, SIZE)),
  values: Float32Array.from(normals(2, SIZE)),
  index: [2, 0, 1, 2],
  ...changes,
})

interface Result {
  y: Float32Array | Uint16Array
  /** of qkv, or of q and kv */
  gradient: Float32Array[]
  dkeys?: Float32Array
  dvalues?: Float32Array
}

function rowsOf(): Rows {
  const offsets = [0]
  for (const length of LENGTHS) offsets.push(offsets[offsets.length - 1] + length)
  return { offsets: Tensor.from(Int32Array.from(offsets), [offsets.length], 'i32'), batch: LENGTHS.length, maxTokens: Math.max(...LENGTHS) }
}

function extraOf({ index, weight, softmax }: Bank, keys: Tensor, values: Tensor): ExtraKeyValues {
  return {
    keys,
    values,
    softmax,
    index: index && Tensor.from(Int32Array.from(index), [index.length], 'i32'),
    weight: weight && Tensor.from(Float32Array.from(weight), [weight.length]),
  }
}

interface Setting {
  dtype: 'f32' | 'bf16'
  causal: boolean
}

/** Attention of drawn rows, with the gradients of Σ seeds ⊙ y. */
async function attend({ dtype, causal }: Setting, given?: Bank): Promise<Result> {
  const qkv = Parameter.named('qkv', Float32Array.from(normals(3, M * 3 * D)), [M, 3 * D])
  const keys = given && Parameter.named('keys', given.keys, [TASKS, SLOTS, D])
  const values = given && Parameter.named('values', given.values, [TASKS, SLOTS, D])
  for (const p of [qkv, keys, values]) if (p) p.trainable = true
  const seeds = Float32Array.from(normals(4, M * D))
  const y = await step(() => {
    const x = dtype === 'bf16' ? ops.cast(qkv, 'bf16') : qkv
    const y = ops.attention(x, rowsOf(), { heads: HEADS, causal, extra: given && extraOf(given, keys as Tensor, values as Tensor) })
    backward([y], [dtype === 'bf16' ? Tensor.from(bf16Bits(seeds), [M, D], 'bf16') : Tensor.from(seeds, [M, D])])
    return y
  })
  const result: Result = {
    y: (await y.data()) as Float32Array | Uint16Array,
    gradient: [await (qkv.gradient as Tensor).floats()],
    dkeys: await keys?.gradient?.floats(),
    dvalues: await values?.gradient?.floats(),
  }
  for (const t of [y, qkv, keys, values]) t?.dispose()
  return result
}

/** The same of one query a sample. */
async function pooled({ causal }: Setting, given?: Bank): Promise<Result> {
  const lengths = LENGTHS.filter((length) => length > 0)
  const q = Parameter.named('q', Float32Array.from(normals(5, lengths.length * D)), [lengths.length, D])
  const kv = Parameter.named('kv', Float32Array.from(normals(6, M * 2 * D)), [M, 2 * D])
  const keys = given && Parameter.named('keys', given.keys, [TASKS, SLOTS, D])
  const values = given && Parameter.named('values', given.values, [TASKS, SLOTS, D])
  for (const p of [q, kv, keys, values]) if (p) p.trainable = true
  const at = [20, 46, 47]
  const picked = given && {
    ...given,
    index: given.index?.filter((_, b) => LENGTHS[b] > 0),
    weight: given.weight?.filter((_, b) => LENGTHS[b] > 0),
  }
  const y = await step(() => {
    const offsets = Tensor.from(Int32Array.of(0, 40, 47, 66), [4], 'i32')
    const y = ops.pooledAttention(q, kv, { offsets, batch: 3, maxTokens: 40 }, Tensor.from(Int32Array.from(at), [3], 'i32'), {
      heads: HEADS,
      causal,
      extra: picked && extraOf(picked, keys as Tensor, values as Tensor),
    })
    backward([y], [Tensor.from(Float32Array.from(normals(7, 3 * D)), [3, D])])
    return y
  })
  const result: Result = {
    y: await y.floats(),
    gradient: [await (q.gradient as Tensor).floats(), await (kv.gradient as Tensor).floats()],
    dkeys: await keys?.gradient?.floats(),
    dvalues: await values?.gradient?.floats(),
  }
  for (const t of [y, q, kv, keys, values]) t?.dispose()
  return result
}

const settings: [string, Setting, typeof attend][] = [
  ...([false, true] as const).flatMap((causal): [string, Setting, typeof attend][] => [
    [`attention f32${causal ? ', causal' : ''}`, { dtype: 'f32', causal }, attend],
    [`attention bf16${causal ? ', causal' : ''}`, { dtype: 'bf16', causal }, attend],
    [`pooled_attention${causal ? ', causal' : ''}`, { dtype: 'f32', causal }, pooled],
  ]),
]
/** Of every bit; `toEqual` walks elements, slowly. */
const digest = (...arrays: (Float32Array | Uint16Array | undefined)[]) => {
  const hash = createHash('sha256')
  for (const array of arrays) if (array) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
  return hash.digest('hex')
}
const zeros = (x?: Float32Array) => x?.every((v) => v === 0)

describe.each(settings)('%s', (_, setting, run) => {
  test('zero values: the bits of attention without them, in the gradients too', async () => {
    const [plain, with0] = [await run(setting), await run(setting, bank({ values: new Float32Array(SIZE) }))]
    expect(digest(with0.y)).toBe(digest(plain.y))
    expect(digest(...with0.gradient)).toBe(digest(...plain.gradient))
    expect(zeros(with0.dkeys)).toBe(true) // until the values have moved
    expect(zeros(with0.dvalues)).toBe(false)
  })

  test('weight 0: the bits of attention without, and nothing of the bank is read or gets a gradient', async () => {
    const nowhere = new Float32Array(SIZE).fill(Number.NaN)
    const [plain, with0] = [await run(setting), await run(setting, bank({ keys: nowhere, values: nowhere, weight: [0, 0, 0, 0] }))]
    expect(digest(with0.y)).toBe(digest(plain.y))
    expect(digest(...with0.gradient)).toBe(digest(...plain.gradient))
    expect(zeros(with0.dkeys) && zeros(with0.dvalues)).toBe(true)
  })

  test('weight 1 is no weight, task 0 is no index', async () => {
    const all = ({ y, gradient, dkeys, dvalues }: Result) => digest(y, ...gradient, dkeys, dvalues)
    const given = await run(setting, bank({ index: [0, 0, 0, 0], weight: [1, 1, 1, 1] }))
    expect(all(given)).toBe(all(await run(setting, bank({ index: undefined }))))
  })

  test('the gradient of a task that no sample has is zero', async () => {
    const { dkeys, dvalues } = await run(setting, bank({ index: [2, 0, 1, 2] })) // task 1 has the empty sample
    for (const gradient of [dkeys, dvalues] as Float32Array[]) {
      expect(zeros(gradient.subarray(SLOTS * D, 2 * SLOTS * D))).toBe(true)
      expect(zeros(gradient.subarray(0, SLOTS * D)) || zeros(gradient.subarray(2 * SLOTS * D))).toBe(false)
    }
  })
})

const flat = { dtype: 'f32', causal: false } as const
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let [difference, norm] = [0, 0]
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2
    norm += b[i] ** 2
  }
  return Math.sqrt(difference / norm)
}
const minus = (a: ArrayLike<number>, b: ArrayLike<number>) => Float64Array.from(a, (v, i) => v - b[i])

test('values times c: the branch times c', async () => {
  const plain = await attend(flat)
  const added = minus((await attend(flat, bank())).y, plain.y)
  const scaled = minus((await attend(flat, bank({ values: bank().values.map((v) => 3 * v) }))).y, plain.y)
  expect(
    distance(
      scaled,
      added.map((v) => 3 * v),
    ),
  ).toBeLessThan(1e-6)
})

test('a weight acts as values times it', async () => {
  const weighed = await attend(flat, bank({ weight: [0.3, 0.3, 0.3, 0.3] }))
  const scaled = await attend(flat, bank({ values: bank().values.map((v) => 0.3 * v) }))
  expect(distance(weighed.y, scaled.y)).toBeLessThan(1e-6)
})

test.each(['separate', 'joint'] as const)('slots in another order: the same but for rounding (%s)', async (softmax) => {
  const swap = (x: Float32Array) => x.map((_, i) => x[Math.floor(i / (SLOTS * D)) * SLOTS * D + ((i + 3 * D) % (SLOTS * D))])
  const [first, second] = [
    await attend(flat, bank({ softmax })),
    await attend(flat, bank({ softmax, keys: swap(bank().keys), values: swap(bank().values) })),
  ]
  expect(distance(second.y, first.y)).toBeLessThan(1e-6)
  expect(distance(second.dkeys as Float32Array, swap(first.dkeys as Float32Array))).toBeLessThan(1e-5)
})

test('joint slots that equal a token: the token twice', async () => {
  const rows = Float32Array.from(normals(8, 5 * 3 * D))
  const own = (part: number) => rows.slice((2 * 3 + part) * D, (2 * 3 + part + 1) * D)
  const y = (tokens: Float32Array, extra: boolean) =>
    scope(() => {
      const n = tokens.length / (3 * D)
      const offsets = Tensor.from(Int32Array.of(0, n), [2], 'i32')
      const options = extra
        ? { keys: Tensor.from(own(1), [1, 1, D]), values: Tensor.from(own(2), [1, 1, D]), softmax: 'joint' as const }
        : undefined
      return ops.attention(Tensor.from(tokens, [n, 3 * D]), { offsets, batch: 1, maxTokens: n }, { heads: HEADS, extra: options })
    })
  const [slot, twice] = [y(rows, true), y(Float32Array.of(...rows, ...rows.subarray(2 * 3 * D, 3 * 3 * D)), false)]
  expect(distance(await slot.floats(), (await twice.floats()).subarray(0, 5 * D))).toBeLessThan(1e-6)
  for (const t of [slot, twice]) t.dispose()
})

test('a frozen qkv: the gradients of the bank have the same bits', async () => {
  const rows = Float32Array.from(normals(3, M * 3 * D))
  const run = async (trains: boolean) => {
    const qkv = Parameter.named('qkv', rows, [M, 3 * D])
    const keys = Parameter.named('keys', bank().keys, [TASKS, SLOTS, D])
    keys.trainable = true
    qkv.trainable = trains
    const seeds = Float32Array.from(normals(4, M * D))
    await step(() => {
      const values = Tensor.from(bank().values, [TASKS, SLOTS, D])
      backward([ops.attention(qkv, rowsOf(), { heads: HEADS, extra: extraOf(bank(), keys, values) })], [Tensor.from(seeds, [M, D])])
    })
    const gradient = await (keys.gradient as Tensor).floats()
    expect(qkv.gradient === undefined).toBe(!trains)
    for (const t of [qkv, keys]) t.dispose()
    return gradient
  }
  expect(digest(await run(false))).toBe(digest(await run(true)))
})
