import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openCheckpoint } from '../../lib/formats/checkpoint.js'
import { placeAdapter } from '../../lib/formats/peft-place.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { mergeFolder } from '../../lib/merge/merge-folder.js'
import { native } from '../../lib/native.js'
import { fixture, relativeError } from '../fixture.js'
import { referenceMerge } from '../formats/reference-merge.js'
import { temporaryFolder } from '../temporary-folder.js'
import { doubles, halfUlp, madeUpAdapter, madeUpCheckpoint, type Spec } from './made-up.js'

const root = temporaryFolder()
let made = 0
const fresh = () => join(root, String(made++))

/** Every tensor is the float64 merge rounded once; what no adapter names has its bytes. */
async function expectMerged(model: string, adapter: string, out: string): Promise<void> {
  const [before, after] = [await openCheckpoint(model), await openCheckpoint(out)]
  const placed = placeAdapter(await openPeftAdapter(adapter), new Map([...before.tensors].map(([name, { shape }]) => [name, shape])))
  const floats = new Map([...before.tensors].filter(([, { dtype }]) => /^B?F(16|32|64)$/.test(dtype)))
  const exact = await referenceMerge(floats, placed)
  expect([...after.tensors.keys()]).toEqual([...before.tensors.keys()])
  for (const [name, tensor] of before.tensors) {
    const result = after.tensors.get(name)
    expect(result).toMatchObject({ dtype: tensor.dtype, shape: tensor.shape, offset: tensor.offset })
    const reference = exact.get(name)
    if (result === undefined || reference === undefined) continue
    const got = await doubles(result)
    const off = firstOff(got, reference, tensor.dtype)
    expect([name, off < 0 ? 'rounded once' : [off, got[off], reference[off]]]).toEqual([name, 'rounded once'])
  }
}

/** The first element that is not within half a unit of the reference; the reference is itself a sum in f64. */
function firstOff(got: Float64Array, exact: Float64Array, dtype: string): number {
  const surely = 2 ** (dtype === 'BF16' ? -10 : dtype === 'F16' ? -13 : -26)
  for (let i = 0; i < exact.length; i++) {
    const [x, off] = [exact[i], got[i] > exact[i] ? got[i] - exact[i] : exact[i] - got[i]]
    if (off > (x < 0 ? -x : x) * surely && off > halfUlp(x, dtype) + Math.abs(x) * 2 ** -49) return i
  }
  return -1
}

describe('adapters that peft wrote', () => {
  test.each(readdirSync(fixture('peft')).filter((name) => existsSync(fixture('peft', name, 'merged.safetensors'))))('%s', async (name) => {
    const out = fresh()
    const model = fresh()
    cpSync(fixture('peft', name), model, { recursive: true })
    await mergeFolder({ model, adapter: model, out, verify: 'all' })
    await expectMerged(model, model, out)
    const theirs = await openSafetensors(join(model, 'merged.safetensors'))
    const ours = await openCheckpoint(out)
    for (const [key, tensor] of theirs.tensors) {
      const result = ours.tensors.get(key)
      expect(result).toBeDefined()
      if (result) expect([key, relativeError([await doubles(result), await doubles(tensor)]) < 2e-7]).toEqual([key, true])
    }
  })

  test.each(['even', 'odd'].flatMap((size) => ['lora', 'rslora-bias', 'dora'].map((kind) => [size, kind])))(
    'clip-peft, %s, %s',
    async (size, kind) => {
      const [model, adapter, out] = [fixture(size, 'clip-quick-gelu'), fixture(size, `clip-peft-${kind}`), fresh()]
      const report = await mergeFolder({ model, adapter, out, verify: 'all' })
      expect(report.drift?.every(({ maxUlp }) => maxUlp <= 0.5 + 1e-9)).toBe(true)
      await expectMerged(model, adapter, out)
      const ours = await openCheckpoint(out)
      const theirs = [...(await openSafetensors(join(adapter, 'case.safetensors'))).tensors.values()].filter(({ name }) =>
        name.startsWith('merged.'),
      )
      expect(theirs).toHaveLength(2)
      for (const tensor of theirs) {
        const result = ours.tensors.get(tensor.name.slice(7))
        expect(result && relativeError([await doubles(result), await doubles(tensor)])).toBeLessThan(2e-7)
      }
    },
  )
})

const WIDE: Spec = {
  'tower.0.q.weight': { shape: [70, 33], dtype: 'BF16' },
  'tower.0.q.bias': { shape: [70], dtype: 'BF16' },
  'tower.1.q.weight': { shape: [40, 129], dtype: 'F16' },
  'tower.2.q.weight': { shape: [9, 20] },
  'tower.3.q.weight': { shape: [5, 6], dtype: 'F64' },
  'tower.4.gate.weight': { shape: [3, 8], dtype: 'F8_E4M3' },
  'norm.scale': { shape: [33], dtype: 'BF16' },
  step: { shape: [], dtype: 'I64' },
  empty: { shape: [0, 4], dtype: 'F16' },
}
const MODULES = { 'tower.0.q': [70, 33], 'tower.1.q': [40, 129], 'tower.2.q': [9, 20], 'tower.3.q': [5, 6] } as const

describe('any architecture', () => {
  test.each([1, 3])('all float types in %i shards, bytes and metadata of the rest kept', async (shards) => {
    const model = await madeUpCheckpoint(fresh(), WIDE, { shards })
    const adapter = await madeUpAdapter(fresh(), { modules: MODULES })
    const out = fresh()
    const progress: number[] = []
    const report = await mergeFolder({ model, adapter, out, onProgress: (done) => progress.push(done) })
    await expectMerged(model, adapter, out)
    expect(report.changed.map(({ name }) => name).sort()).toEqual(Object.keys(MODULES).map((name) => `${name}.weight`))
    expect(progress.at(-1)).toBe(report.bytes)
    const before = await openCheckpoint(model)
    expect(before.files.length).toBe(shards)
    for (const [i, file] of before.files.entries()) {
      const [old, now] = [readFileSync(file), readFileSync((await openCheckpoint(out)).files[i])]
      for (const { name, offset, bytes, path } of before.tensors.values()) {
        if (path !== file || !(name.replace('.weight', '') in MODULES)) continue
        expect(now.subarray(offset, offset + bytes).equals(old.subarray(offset, offset + bytes))).toBe(false)
        old.copy(now, offset, offset, offset + bytes)
      }
      expect(now.equals(old)).toBe(true)
    }
    for (const name of readdirSync(model).filter((name) => name.endsWith('.json')))
      expect(JSON.parse(readFileSync(join(out, name), 'utf8'))).toEqual(JSON.parse(readFileSync(join(model, name), 'utf8')))
  })

  test('the same bits for any number of threads, across pieces of a megabyte', async () => {
    const model = await madeUpCheckpoint(fresh(), { 'a.weight': { shape: [1501, 401], dtype: 'BF16' }, 'b.weight': { shape: [3001, 203] } })
    const modules = { a: [1501, 401], b: [3001, 203] } as const
    const adapters = [await madeUpAdapter(fresh(), { modules, dora: true }), await madeUpAdapter(fresh(), { modules, seed: 3 })]
    const { threads } = native.backendInfo()
    const files: Buffer[] = []
    for (const n of [1, 2, 5]) {
      native.setThreads(n)
      const out = fresh()
      await mergeFolder({ model, adapter: adapters, out })
      files.push(readFileSync(join(out, 'model.safetensors')))
    }
    native.setThreads(threads)
    expect(files.every((file) => file.equals(files[0]))).toBe(true)
    const [one, out] = [await madeUpAdapter(fresh(), { modules }), fresh()]
    await mergeFolder({ model, adapter: one, out })
    await expectMerged(model, one, out)
  })

  test('weights of several adapters; a weighted DoRA moves part of the way', async () => {
    const spec: Spec = { 'a.weight': { shape: [12, 8] }, 'a.bias': { shape: [12] } }
    const model = await madeUpCheckpoint(fresh(), spec)
    const modules = { a: [12, 8] } as const
    const values = async (adapter: Parameters<typeof mergeFolder>[0]['adapter'], name = 'a.weight') => {
      const out = fresh()
      await mergeFolder({ model, adapter, out, dtype: 'f32' })
      const tensor = (await openCheckpoint(out)).tensors.get(name)
      return tensor ? doubles(tensor) : new Float64Array()
    }
    const [one, two] = [await madeUpAdapter(fresh(), { modules, seed: 2 }), await madeUpAdapter(fresh(), { modules, seed: 3, rank: 2 })]
    const dora = await madeUpAdapter(fresh(), { modules, dora: true })
    const w = await values([])
    const mix = await values([
      { path: one, weight: 0.25 },
      { path: two, weight: -2 },
    ])
    const [first, second, whole] = [await values(one), await values(two), await values(dora)]
    expect(relativeError([mix, w.map((x, i) => x + 0.25 * (first[i] - x) - 2 * (second[i] - x))])).toBeLessThan(1e-6)
    expect(relativeError([await values([{ path: dora, weight: 0.3 }]), w.map((x, i) => 0.7 * x + 0.3 * whole[i])])).toBeLessThan(1e-7)
    expect(await values([{ path: one, weight: 0 }])).toEqual(w)
    const saved = await madeUpAdapter(fresh(), { modules, more: { 'base_model.model.a.bias': { shape: [12] } }, config: { bias: 'all' } })
    const [b, theirs] = [await values([], 'a.bias'), await values(saved, 'a.bias')]
    expect(relativeError([await values([{ path: saved, weight: 0.5 }], 'a.bias'), b.map((x, i) => (x + theirs[i]) / 2)])).toBeLessThan(1e-7)
  })

  test('a new head, of its own shape and name', async () => {
    const model = await madeUpCheckpoint(
      fresh(),
      { 'a.weight': { shape: [12, 8], dtype: 'BF16' }, 'head.weight': { shape: [5, 12], dtype: 'BF16' } },
      { shards: 2 },
    )
    const more: Spec = { 'base_model.model.head.weight': { shape: [7, 12] }, 'base_model.model.head.bias': { shape: [7] } }
    const adapter = await madeUpAdapter(fresh(), { modules: { a: [12, 8] }, more, config: { modules_to_save: ['head'] } })
    const out = fresh()
    const report = await mergeFolder({ model, adapter, out })
    expect(report.warnings.join()).toMatch(/head\.bias is new/)
    const merged = await openCheckpoint(out) // by its index
    expect(merged.tensors.get('head.weight')).toMatchObject({ shape: [7, 12], dtype: 'F32' })
    const saved = await openSafetensors(join(adapter, 'adapter_model.safetensors'))
    for (const name of ['head.weight', 'head.bias']) {
      const [got, want] = [merged.tensors.get(name), saved.tensors.get(`base_model.model.${name}`)]
      expect(got && want && (await doubles(got))).toEqual(want && (await doubles(want)))
    }
  })

  test('another type, in the configuration too; integers stay', async () => {
    const model = await madeUpCheckpoint(fresh(), {
      'a.weight': { shape: [120, 80] },
      step: { shape: [2], dtype: 'I64' },
      c: { shape: [5003] },
    })
    const adapter = await madeUpAdapter(fresh(), { modules: { a: [120, 80] } })
    const [plain, narrow] = [fresh(), fresh()]
    writeFileSync(join(model, 'config.json'), '{"model_type": "made-up", "torch_dtype": "float32", "factor": 1.0}\n')
    await mergeFolder({ model, adapter, out: plain })
    const { drift, changed } = await mergeFolder({ model, adapter, out: narrow, dtype: 'bf16', verify: 'all' })
    expect(changed.map(({ name }) => name).sort()).toEqual(['a.weight', 'c']) // c is rounded
    expect(drift?.map(({ name, ofChange }) => [name, ofChange > 0]).sort()).toEqual([
      ['a.weight', true],
      ['c', false],
    ])
    const [exact, rounded] = [await openCheckpoint(plain), await openCheckpoint(narrow)]
    expect([...rounded.tensors.values()].map(({ name, dtype }) => [name, dtype]).sort()).toEqual([
      ['a.weight', 'BF16'],
      ['c', 'BF16'],
      ['step', 'I64'],
    ])
    const [want, got] = await Promise.all([exact, rounded].map(async ({ tensors }) => doubles(tensors.get('c') as never)))
    expect(got.every((x, i) => Math.abs(x - want[i]) <= halfUlp(want[i], 'BF16'))).toBe(true)
    const config = readFileSync(join(narrow, 'config.json'), 'utf8')
    expect(config).toBe('{"model_type": "made-up", "torch_dtype": "bfloat16", "factor": 1.0}\n') // 1.0 stays a float
  })
})

describe('what goes wrong is said before, or leaves the target as it was', () => {
  const setup = async (adapter: Parameters<typeof madeUpAdapter>[1]) => {
    const model = await madeUpCheckpoint(fresh(), {
      'a.weight': { shape: [12, 8], dtype: 'F16' },
      'b.weight': { shape: [6, 8], dtype: 'F16' },
    })
    const out = fresh()
    mkdirSync(out)
    writeFileSync(join(out, 'model.safetensors'), 'as it was')
    return { model, out, adapter: await madeUpAdapter(fresh(), adapter) }
  }
  const untouched = (out: string) => {
    expect(readdirSync(out)).toEqual(['model.safetensors'])
    expect(readFileSync(join(out, 'model.safetensors'), 'utf8')).toBe('as it was')
  }

  test('all that does not fit, with sizes and nearest names', async () => {
    const first = await setup({ modules: { a: [12, 9], bb: [6, 8] } })
    const second = await madeUpAdapter(fresh(), { modules: { b: [7, 8] } })
    const error = await mergeFolder({ ...first, adapter: [first.adapter, second] }).catch((e) => e)
    expect(error.code).toBe('E_ADAPTER')
    for (const part of [/a\.weight: .*\[12, 9\].*\[12, 8\]/, /missing bb/, /b\.weight: .*\[7, 8\].*\[6, 8\]/])
      expect(error.message).toMatch(part)
    untouched(first.out)
  })

  test('a dry run', async () => {
    const made = await setup({ modules: { a: [12, 8] } })
    const report = await mergeFolder({ ...made, dryRun: true })
    expect(report).toMatchObject({ dryRun: true, tensors: 2, changed: [{ name: 'a.weight', dtype: 'F16', shape: [12, 8], bytes: 192 }] })
    untouched(made.out)
  })

  test('overflow is counted, or with `safe` refused', async () => {
    const made = await setup({ modules: { a: [12, 8] }, size: 3000 })
    await expect(mergeFolder({ ...made, safe: true })).rejects.toMatchObject({
      code: 'E_NOT_FINITE',
      message: expect.stringMatching(/a\.weight/),
    })
    untouched(made.out)
    const { nonFinite } = await mergeFolder(made)
    expect(nonFinite['a.weight']).toBeGreaterThan(0)
  })

  test('aborted', async () => {
    const made = await setup({ modules: { a: [12, 8] } })
    await expect(mergeFolder({ ...made, signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough')
    untouched(made.out)
  })

  test('into itself, an option that is none, a checkpoint that shrinks', async () => {
    const made = await setup({ modules: { a: [12, 8] } })
    await expect(mergeFolder({ ...made, out: made.model })).rejects.toMatchObject({ code: 'E_SAME_FOLDER' })
    await expect(mergeFolder({ ...made, adapter: [{ path: made.adapter, weight: Number.NaN }] })).rejects.toMatchObject({
      code: 'E_OPTION',
    })
    const file = join(made.model, 'model.safetensors')
    writeFileSync(file, readFileSync(file).subarray(0, -4))
    await expect(mergeFolder(made)).rejects.toMatchObject({ code: 'E_SAFETENSORS_INCOMPLETE' })
    untouched(made.out)
  })
})
