import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { openCheckpoint } from '../../lib/formats/checkpoint.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import { extractLora } from '../../lib/merge/extract.js'
import { mergeFolder } from '../../lib/merge/merge-folder.js'
import { unmergeFolder } from '../../lib/merge/unmerge.js'
import { relativeError } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { doubles, madeUpAdapter, madeUpCheckpoint, type Spec } from './made-up.js'

const root = temporaryFolder()
let made = 0
const fresh = () => join(root, String(made++))

const SPEC: Spec = {
  'layers.0.q.weight': { shape: [48, 32], dtype: 'BF16' },
  'layers.0.q.bias': { shape: [48], dtype: 'BF16' },
  'layers.1.q.weight': { shape: [48, 32] },
  'layers.1.conv.weight': { shape: [20, 6, 3, 3] },
  'embed.weight': { shape: [50, 32] },
  'head.weight': { shape: [5, 48] },
}
const MODULES = { 'layers.0.q': [48, 32], 'layers.1.q': [48, 32] } as const
const valuesOf = async (folder: string, name: string) => {
  const tensor = (await openCheckpoint(folder)).tensors.get(name)
  return tensor ? doubles(tensor) : new Float64Array()
}

describe('unmerge', () => {
  test('with the original bytes kept: the same file, whatever was merged', async () => {
    const model = await madeUpCheckpoint(fresh(), SPEC)
    const more: Spec = { 'base_model.model.head.weight': { shape: [9, 48] }, 'base_model.model.head.bias': { shape: [9] } }
    const adapter = await madeUpAdapter(fresh(), { modules: MODULES, dora: true, more, config: { modules_to_save: ['head'] } })
    const [merged, back] = [fresh(), fresh()]
    await mergeFolder({ model, adapter, out: merged, keepOriginal: true })
    const report = await unmergeFolder({ model: merged, out: back, original: model })
    expect(report).toMatchObject({ by: 'original bytes', isBase: true })
    expect(report.compared?.length).toBeGreaterThan(2)
    expect(report.compared?.every(({ changed }) => changed === 0)).toBe(true)
    const [before, after] = [await openCheckpoint(model), await openCheckpoint(back)]
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort())
    for (const [name, tensor] of before.tensors)
      expect([name, await doubles(after.tensors.get(name) as never)]).toEqual([name, await doubles(tensor)])
    const changed = await mergeFolder({ model, adapter, out: merged }) // an older merge's bytes go with it
    expect(changed.changed.length).toBeGreaterThan(2)
    await expect(unmergeFolder({ model: merged, out: back })).rejects.toMatchObject({ code: 'E_UNMERGE' })
  })

  test('with the original bytes kept, from another type too', async () => {
    const model = await madeUpCheckpoint(fresh(), SPEC)
    const adapter = await madeUpAdapter(fresh(), { modules: MODULES })
    const [merged, back] = [fresh(), fresh()]
    await mergeFolder({ model, adapter, out: merged, keepOriginal: true, dtype: 'f16' })
    expect(await unmergeFolder({ model: merged, out: back })).toMatchObject({ isBase: true })
    expect(await valuesOf(back, 'embed.weight')).toEqual(await valuesOf(model, 'embed.weight'))
  })

  test('by subtraction: near the original, and said how near', async () => {
    const model = await madeUpCheckpoint(fresh(), SPEC)
    const adapter = await madeUpAdapter(fresh(), { modules: MODULES, size: 0.05 })
    const [merged, back] = [fresh(), fresh()]
    await mergeFolder({ model, adapter: [{ path: adapter, weight: 0.5 }], out: merged })
    const report = await unmergeFolder({ model: merged, adapter: [{ path: adapter }], out: back, original: model, verify: 'all' })
    expect(report.by).toBe('subtraction')
    expect(report.drift?.every(({ maxUlp }) => maxUlp <= 0.5 + 1e-9)).toBe(true)
    const bf16 = report.compared?.find(({ name }) => name === 'layers.0.q.weight')
    expect(bf16?.relative).toBeLessThan(2 ** -8)
    expect(report.compared?.find(({ name }) => name === 'layers.1.q.weight')?.relative).toBeLessThan(1e-7)
    const [got, want] = [await valuesOf(back, 'layers.0.q.weight'), await valuesOf(model, 'layers.0.q.weight')]
    expect(relativeError([got, want])).toBeCloseTo(bf16?.relative ?? 1, 12)
    expect(await valuesOf(back, 'embed.weight')).toEqual(await valuesOf(model, 'embed.weight'))
  })

  test('an adapter that was merged twice is taken out twice, or with the weight that is meant', async () => {
    const model = await madeUpCheckpoint(fresh(), SPEC)
    const [path, other] = [await madeUpAdapter(fresh(), { modules: MODULES }), await madeUpAdapter(fresh(), { modules: MODULES, seed: 5 })]
    const [merged, back] = [fresh(), fresh()]
    const twice = [
      { path, weight: 0.5 },
      { path, weight: 0.25 },
    ]
    await mergeFolder({ model, adapter: [...twice, other], out: merged })
    const unmerge = (adapter: readonly { path: string; weight?: number }[]) =>
      unmergeFolder({ model: merged, adapter, out: back, original: model })
    await expect(unmerge([{ path }, { path: other }])).rejects.toMatchObject({
      code: 'E_UNMERGE',
      message: `${path}: expected it as often as it was merged (twice, with the weights 0.5 and 0.25), got it once: name it twice (--adapter), or give the weight to take out (--weights)`,
    })
    await expect(unmerge([{ path }, { path }, { path }])).rejects.toMatchObject({
      message: expect.stringMatching(/twice\), got it more often$/),
    })
    const relative = ({ compared }: Awaited<ReturnType<typeof unmerge>>) =>
      compared?.find(({ name }) => name === 'layers.1.q.weight')?.relative
    const whole = await unmerge([{ path }, { path: other }, { path }])
    expect(whole.left).toBeUndefined()
    expect(relative(whole)).toBeLessThan(1e-6)
    const part = await unmerge([{ path, weight: 0.25 }, { path: other }])
    expect(part.left).toEqual([basename(path)])
    expect(relative(part)).toBeGreaterThan(1e-4)
  })

  test('what cannot be subtracted', async () => {
    const model = await madeUpCheckpoint(fresh(), SPEC)
    const [adapter, dora, other] = [
      await madeUpAdapter(fresh(), { modules: MODULES }),
      await madeUpAdapter(fresh(), { modules: MODULES, dora: true }),
      await madeUpAdapter(fresh(), { modules: MODULES, seed: 11 }),
    ]
    const merged = fresh()
    await mergeFolder({ model, adapter: [adapter, dora], out: merged })
    const run = (path: string) => unmergeFolder({ model: merged, adapter: [{ path }], out: fresh() })
    await expect(run(dora)).rejects.toMatchObject({ code: 'E_UNMERGE', message: expect.stringMatching(/DoRA/) })
    await expect(run(other)).rejects.toMatchObject({ code: 'E_UNMERGE', message: expect.stringMatching(/was merged into this model/) })
  })
})

describe('extract', () => {
  test('gives back a LoRA that was merged, and its merge the tuned model', async () => {
    const model = await madeUpCheckpoint(fresh(), SPEC)
    const adapter = await madeUpAdapter(fresh(), { modules: { 'layers.1.q': [48, 32], head: [5, 48] }, rank: 3, size: 0.4 })
    const [tuned, lora, again] = [fresh(), fresh(), fresh()]
    await mergeFolder({ model, adapter, out: tuned })
    const report = await extractLora({ base: model, model: tuned, out: lora, rank: 3 })
    expect(report.left).toEqual(['head.weight'])
    expect(report.modules).toEqual([expect.objectContaining({ module: 'layers.1.q', rank: 3, shape: [48, 32] })])
    expect(report.modules[0].energy).toBeGreaterThan(1 - 1e-9)
    expect(report.modules[0].error).toBeLessThan(1e-4)
    await mergeFolder({ model, adapter: lora, out: again })
    expect(relativeError([await valuesOf(again, 'layers.1.q.weight'), await valuesOf(tuned, 'layers.1.q.weight')])).toBeLessThan(1e-6)
    expect((await openPeftAdapter(lora)).targets.map(({ scaling }) => scaling)).toEqual([1])
    expect(readFileSync(join(lora, 'adapter_config.json'), 'utf8')).toMatch(/"peft_type": "LORA"/)
  })

  test('of full rank changes: error and energy are those of the best approximation', async () => {
    const [base, model] = [await madeUpCheckpoint(fresh(), SPEC), await madeUpCheckpoint(fresh(), SPEC, { seed: 3 })]
    const [out, merged] = [fresh(), fresh()]
    const report = await extractLora({ base, model, out, rank: 8, targets: ['q', 'conv'] })
    expect(report.modules.map(({ module }) => module).sort()).toEqual(['layers.0.q', 'layers.1.conv', 'layers.1.q'])
    expect(report.left.sort()).toEqual(['embed.weight', 'head.weight', 'layers.0.q.bias'])
    await mergeFolder({ model: base, adapter: out, out: merged })
    for (const { module, error, energy } of report.modules.filter(({ module }) => module !== 'layers.0.q')) {
      const [w, want, got] = await Promise.all([base, model, merged].map((folder) => valuesOf(folder, `${module}.weight`)))
      const measured = relativeError([got.map((x, i) => x - w[i]), want.map((x, i) => x - w[i])])
      expect(measured).toBeCloseTo(error, 4)
      expect(energy).toBeCloseTo(1 - error ** 2, 9)
    }
    await expect(extractLora({ base, model: base, out: fresh() })).rejects.toMatchObject({ code: 'E_OPTION' })
    const odd = await madeUpCheckpoint(fresh(), { ...SPEC, 'head.weight': { shape: [6, 48] } })
    await expect(extractLora({ base, model: odd, out: fresh() })).rejects.toMatchObject({
      code: 'E_CHECKPOINT',
      message: expect.stringMatching(/head\.weight: \[5, 48\] and \[6, 48\]/),
    })
  })
})
