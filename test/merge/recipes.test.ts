import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { openCheckpoint } from '../../lib/formats/checkpoint.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { combineAdapters } from '../../lib/merge/combine-adapters.js'
import { combineCheckpoints } from '../../lib/merge/combine-checkpoints.js'
import type { AdapterRecipe, CheckpointRecipe } from '../../lib/merge/recipe-schema.js'
import { readRecipe, runRecipe } from '../../lib/merge/run-recipe.js'
import { native } from '../../lib/native.js'
import { fixture, relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { doubles, halfUlp, madeUpAdapter, madeUpCheckpoint, type Spec } from './made-up.js'

const { abs, fround, sign } = Math // looked up once: jest's globals are slow
const root = temporaryFolder()
let made = 0
const fresh = () => join(root, String(made++))

/** B A of every module. */
async function changes(
  folder: string,
): Promise<Map<string, { delta: Float64Array; a: Float64Array; b: Float64Array; rank: number; scaling: number }>> {
  const all = new Map()
  for (const { module, a, b, rank, scaling } of (await openPeftAdapter(folder)).targets) {
    const [left, right] = [await doubles(b), await doubles(a)]
    const [out, inner] = [left.length / rank, right.length / rank]
    const delta = new Float64Array(out * inner)
    for (let i = 0; i < out; i++)
      for (let r = 0; r < rank; r++)
        for (let j = 0; j < inner; j++) delta[i * inner + j] += scaling * left[i * rank + r] * right[r * inner + j]
    all.set(module, { delta, a: right, b: left, rank, scaling })
  }
  return all
}

describe('adapters, as peft combines them', () => {
  const path = (name: string) => fixture('peft-combined', name)
  const pair = [
    { path: path('first'), weight: 0.7 },
    { path: path('second'), weight: -0.4 },
  ]
  const uneven = [
    { path: path('first'), weight: 0.7 },
    { path: path('wide'), weight: -0.4 },
  ]
  const cases: [string, AdapterRecipe][] = [
    ['linear', { method: 'linear', adapters: pair }],
    ['cat', { method: 'cat', adapters: uneven }],
    ['svd', { method: 'svd', adapters: uneven, rank: 5 }],
    ['ties', { method: 'ties', adapters: pair, density: 0.45 }],
    ['ties_frequency', { method: 'ties', adapters: pair, density: 0.6, majority_sign_method: 'frequency' }],
    ['ties_svd', { method: 'ties_svd', adapters: pair, density: 0.5, rank: 9 }],
    ['magnitude_prune', { method: 'magnitude_prune', adapters: pair, density: 0.3 }],
    ['magnitude_prune_svd', { method: 'magnitude_prune_svd', adapters: uneven, density: 0.3, rank: 9 }],
  ]
  test.each(cases)('%s', async (name, recipe) => {
    const out = fresh()
    await combineAdapters(recipe, { out })
    const expected = (await openSafetensors(path('expected.safetensors'))).tensors
    const ours = await changes(out)
    expect([...ours.keys()].sort()).toEqual(['down', 'up'])
    for (const [module, { delta, a, b, scaling }] of ours) {
      expect(scaling).toBe(1)
      for (const [part, values] of Object.entries({ '': delta, '.a': a, '.b': b })) {
        const theirs = expected.get(`${name}.${module}${part}`)
        if (theirs) expect([part, relativeError([values, await doubles(theirs)])]).toEqual([part, expect.closeTo(0, 5)])
      }
    }
  })

  test('an SVD of the same rank as the whole loses nothing; a smaller one says what', async () => {
    const out = fresh()
    const cat = fresh()
    await combineAdapters({ method: 'cat', adapters: uneven }, { out: cat })
    const full = await combineAdapters({ method: 'svd', adapters: uneven, rank: 7 }, { out })
    const [want, got] = [await changes(cat), await changes(out)]
    for (const [module, { delta }] of want) expect(relativeError([got.get(module)?.delta ?? [], delta])).toBeLessThan(1e-6)
    expect(Math.max(...full.modules.map(({ error }) => error ?? 1))).toBeLessThan(1e-6)
    const small = await combineAdapters({ method: 'svd', adapters: uneven, rank: 2 }, { out: fresh() })
    const kept = await changes(small.out)
    for (const { module, error } of small.modules) {
      const exact = want.get(module)?.delta ?? new Float64Array()
      expect(relativeError([kept.get(module)?.delta ?? [], exact])).toBeCloseTo(error ?? 0, 5)
    }
  })

  test('DARE keeps a share of the factors, rescaled, by its seed', async () => {
    const [a, b] = [
      await madeUpAdapter(fresh(), { modules: { m: [300, 200] } }),
      await madeUpAdapter(fresh(), { modules: { m: [300, 200] }, seed: 9 }),
    ]
    const run = async (seed: number) => {
      const out = fresh()
      await combineAdapters({ method: 'dare_linear', adapters: [{ path: a }, { path: b, weight: 0 }], density: 0.25, seed }, { out })
      return (await changes(out)).get('m')
    }
    const [one, again, other] = [await run(1), await run(1), await run(2)]
    expect(one?.a).toEqual(again?.a)
    expect(one?.a).not.toEqual(other?.a)
    const original = (await changes(a)).get('m')
    const root2 = Math.sqrt(original?.scaling ?? 0)
    const kept = (one?.b ?? new Float64Array()).filter((x) => x !== 0).length / 1200
    expect(kept).toBeGreaterThan(0.2)
    expect(kept).toBeLessThan(0.3)
    const scaled = (original?.b ?? new Float64Array()).map((x, i) => (one?.b[i] === 0 ? 0 : x * root2 * 4))
    expect(relativeError([one?.b ?? [], scaled])).toBeLessThan(1e-6)
  })

  test('what cannot be combined', async () => {
    const [lora, dora] = [
      await madeUpAdapter(fresh(), { modules: { m: [6, 5] } }),
      await madeUpAdapter(fresh(), { modules: { m: [6, 5] }, dora: true }),
    ]
    const other = await madeUpAdapter(fresh(), { modules: { m: [6, 4] }, rank: 3 })
    const out = fresh()
    const run = (method: AdapterRecipe['method'], ...paths: string[]) =>
      combineAdapters({ method, adapters: paths.map((p) => ({ path: p })) }, { out })
    await expect(run('cat', lora, dora)).rejects.toMatchObject({ code: 'E_ADAPTER', message: expect.stringMatching(/DoRA of m/) })
    await expect(run('cat', lora, other)).rejects.toMatchObject({
      code: 'E_ADAPTER',
      message: expect.stringMatching(/m: .*\[6, 5\].*\[6, 4\]/),
    })
    const narrow = await madeUpAdapter(fresh(), { modules: { m: [6, 5] }, rank: 2 })
    await expect(run('linear', lora, narrow)).rejects.toMatchObject({ code: 'E_ADAPTER', message: expect.stringMatching(/ranks 4 and 2/) })
    expect(existsSync(out)).toBe(false)
  })
})

const SPEC: Spec = {
  'a.weight': { shape: [70, 41], dtype: 'BF16' },
  'b.weight': { shape: [64, 33], dtype: 'F16' },
  'c.weight': { shape: [150, 100] },
  norm: { shape: [7] },
  step: { shape: [2], dtype: 'I64' },
}

describe('checkpoints', () => {
  const read = async (folder: string) => {
    const { tensors } = await openCheckpoint(folder)
    return new Map(
      await Promise.all(
        [...tensors].map(async ([name, tensor]) => [name, { values: await doubles(tensor), dtype: tensor.dtype }] as const),
      ),
    )
  }
  /** Each float tensor is what `formula` makes of the inputs' values, rounded once. */
  async function expectCombined(recipe: CheckpointRecipe, formula: (inputs: Float64Array[], name: string) => Float64Array) {
    const out = fresh()
    await combineCheckpoints(recipe, { out })
    const inputs = await Promise.all([...(recipe.base ? [recipe.base] : []), ...recipe.models.map(({ path }) => path)].map(read))
    for (const [name, { values, dtype }] of await read(out)) {
      const all = inputs.map((one) => one.get(name)?.values ?? new Float64Array())
      if (dtype === 'I64') expect(values).toEqual(all[0])
      else {
        const exact = formula(all, name)
        const off = exact.findIndex((x, i) => abs(values[i] - x) > halfUlp(x, dtype) + abs(x) * 1e-14 + 1e-17)
        expect([name, off < 0 ? '' : [off, values[off], exact[off]]]).toEqual([name, ''])
      }
    }
    return out
  }
  const three = async () => [
    await madeUpCheckpoint(fresh(), SPEC, { shards: 2 }),
    await madeUpCheckpoint(fresh(), SPEC, { seed: 2 }),
    await madeUpCheckpoint(fresh(), SPEC, { seed: 3 }),
  ]
  const top = (d: Float64Array, density: number) => {
    const keep = Math.floor(density * d.length)
    const size = d.map((x) => fround(abs(x)))
    const order = [...d.keys()].sort((i, j) => size[j] - size[i] || i - j)
    const kept = new Set(order.slice(0, keep))
    return d.map((x, i) => (kept.has(i) ? x : 0))
  }

  test('soups, WiSE-FT, task arithmetic', async () => {
    const [base, one, two] = await three()
    const out = await expectCombined({ method: 'linear', models: [{ path: base }, { path: one, weight: 3 }] }, ([x, y]) =>
      x.map((v, i) => v / 4 + (3 * y[i]) / 4),
    )
    expect((await openCheckpoint(out)).files.length).toBe((await openCheckpoint(base)).files.length)
    await expectCombined({ method: 'linear', normalize: false, models: [{ path: one }, { path: two, weight: -1 }] }, ([x, y]) =>
      x.map((v, i) => v - y[i]),
    )
    await expectCombined({ method: 'wise_ft', base, models: [{ path: one }], alpha: 0.3 }, ([x, y]) =>
      x.map((v, i) => 0.7 * v + 0.3 * y[i]),
    )
    await expectCombined(
      {
        method: 'task_arithmetic',
        base,
        models: [
          { path: one, weight: 0.5 },
          { path: two, weight: -2 },
        ],
        lambda: 0.8,
      },
      ([b, x, y]) => b.map((v, i) => v + 0.8 * (0.5 * (x[i] - v) - 2 * (y[i] - v))),
    )
  })

  test('SLERP turns at the angle of the two, and is a line when they are parallel', async () => {
    const [, one, two] = await three()
    await expectCombined({ method: 'slerp', models: [{ path: one }, { path: two }], t: 0.25 }, ([x, y]) => {
      const sum = (f: (i: number) => number) => x.reduce((s, _, i) => s + f(i), 0)
      const angle = Math.acos(sum((i) => x[i] * y[i]) / Math.sqrt(sum((i) => x[i] ** 2) * sum((i) => y[i] ** 2)))
      return x.map((v, i) => (Math.sin(0.75 * angle) * v + Math.sin(0.25 * angle) * y[i]) / Math.sin(angle))
    })
    await expectCombined({ method: 'slerp', models: [{ path: one }, { path: one }], t: 0.25 }, ([x]) => x)
  })

  test('magnitude pruning and TIES, equal magnitudes in order', async () => {
    const [base, one, two] = await three()
    await expectCombined({ method: 'magnitude_prune', base, models: [{ path: one, density: 0.2 }], lambda: 2 }, ([b, x]) => {
      const d = top(
        x.map((v, i) => v - b[i]),
        0.2,
      )
      return b.map((v, i) => v + 2 * d[i])
    })
    for (const majority_sign_method of ['total', 'frequency'] as const) {
      const models = [{ path: one, weight: 1.5, density: 0.4 }, { path: two }, { path: base }]
      await expectCombined({ method: 'ties', base, models, density: 0.7, majority_sign_method, lambda: 0.5 }, ([b, ...xs]) => {
        const d = xs.map((x, k) =>
          top(
            x.map((v, i) => v - b[i]),
            [0.4, 0.7, 0.7][k],
          ),
        )
        return b.map((v, i) => {
          const votes = d.reduce((s, x) => s + (majority_sign_method === 'total' ? x[i] : sign(x[i])), 0)
          const own = d.map((x, k) => [x[i], [1.5, 1, 1][k]]).filter(([x]) => sign(x) === (votes >= 0 ? 1 : -1))
          return v + (0.5 * own.reduce((s, [x, w]) => s + x * w, 0)) / Math.max(1, own.length)
        })
      })
    }
  })

  test('DARE draws by seed, tensor and index: any number of threads, any shards', async () => {
    const [base, one] = await three()
    const { threads } = native.backendInfo()
    const results: Map<string, { values: Float64Array }>[] = []
    for (const [n, from] of [
      [1, base],
      [3, await madeUpCheckpoint(fresh(), SPEC, { shards: 1 })],
    ] as const) {
      native.setThreads(n)
      const out = fresh()
      await combineCheckpoints({ method: 'dare_linear', base: from, models: [{ path: one }], density: 0.1, seed: 4 }, { out })
      results.push(await read(out))
    }
    native.setThreads(threads)
    const [first, second] = results
    for (const [name, { values }] of first) expect([name, second.get(name)?.values]).toEqual([name, values])
    const [b, x, y] = [await read(base), await read(one), first].map((all) => all.get('c.weight')?.values ?? new Float64Array())
    const kept = y.filter((v, i) => v !== b[i]).length / y.length
    expect(Math.abs(kept - 0.1)).toBeLessThan(0.01)
    expect(relativeError([y, b.map((v, i) => (y[i] === v ? v : v + 10 * (x[i] - v)))])).toBeLessThan(1e-6)
  })

  test('tensors that differ are all named', async () => {
    const [base] = await three()
    const other = await madeUpCheckpoint(fresh(), {
      ...SPEC,
      'a.weight': { shape: [70, 40], dtype: 'BF16' },
      'b.weights': { shape: [64, 33] },
      norm: { shape: [7] },
    })
    const out = fresh()
    const error = await combineCheckpoints({ method: 'linear', models: [{ path: base }, { path: other }] }, { out }).catch((e) => e)
    expect(error.code).toBe('E_CHECKPOINT')
    for (const part of [/a\.weight: expected \[70, 41\], got \[70, 40\]/, /unexpected b\.weights/]) expect(error.message).toMatch(part)
    expect(existsSync(out)).toBe(false)
  })
})

describe('the file', () => {
  test('runs', async () => {
    const [one, two] = [await madeUpCheckpoint(fresh(), SPEC), await madeUpCheckpoint(fresh(), SPEC, { seed: 5 })]
    const [path, out] = [join(root, 'recipe.yaml'), fresh()]
    writeFileSync(path, stringify({ method: 'linear', models: [{ path: one }, { path: two }], out, dtype: 'f32' }))
    const report = await runRecipe(await readRecipe(path))
    expect(report).toMatchObject({ kind: 'checkpoint', out, nonFinite: {} })
    expect((await openCheckpoint(out)).tensors.get('a.weight')?.dtype).toBe('F32')
  })

  test.each([
    [{ method: 'ties', models: [{ path: 'x' }] }, /ties: expected a base/],
    [{ method: 'slerp', models: [{ path: 'x' }] }, /slerp: expected two models/],
    [{ method: 'linear', base: 'y', models: [{ path: 'x' }] }, /linear: expected no base/],
    [
      {
        method: 'linear',
        models: [
          { path: 'x', weight: 1 },
          { path: 'y', weight: -1 },
        ],
      },
      /sum other than 0/,
    ],
    [{ method: 'karcher', models: [{ path: 'x' }] }, /method/],
    [{ method: 'cat', adapters: [{ path: 'x', density: 0.5 }] }, /density/],
    [{ method: 'linear', models: [{ path: 'x' }], densty: 1 }, /densty/],
  ])('%j is refused', async (recipe, message) => {
    const path = join(root, 'wrong.yaml')
    writeFileSync(path, stringify(recipe))
    await expect(readRecipe(path)).rejects.toMatchObject({ code: 'E_USAGE', message: expect.stringMatching(message) })
  })

  test('the examples are recipes', async () => {
    for (const name of ['merge-soup', 'merge-ties', 'merge-wise-ft', 'merge-adapters']) {
      const path = join(__dirname, '../../examples', `${name}.yaml`)
      expect(await readRecipe(path)).toMatchObject({ out: expect.any(String) })
      expect(readFileSync(path, 'utf8')).toMatch(/^# /)
    }
  })
})
