import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fixture } from '../fixture.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'
import { cambium, program } from './command.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const peft = join(__dirname, '../fixtures/peft/clip-everywhere')

beforeAll(() => tinyClip(at('clip')))

describe('inspect', () => {
  test('a checkpoint: layout, configuration, tensors of all layers in one line', async () => {
    const { code, out, err } = await program(['inspect', at('clip')])
    expect([code, err]).toEqual([0, ''])
    expect(out).toMatch(/clip: checkpoint of a CLIP, names of hf4\n {2}model\.safetensors, [\d.]+ MB\n/)
    expect(out).toMatch(/vision: 4 layers of width \d+, \d+ heads/)
    expect(out).toMatch(/^vision_model\.encoder\.layers\.\{0-3\}\.mlp\.fc1\.weight +F32 +\[\d+, \d+\] +× 4 /m)
    const all = await program(['inspect', at('clip', 'model.safetensors'), '--tensors'])
    expect(all.out).toMatch(/^vision_model\.encoder\.layers\.1\.mlp\.fc1\.weight +F32/m)
  })

  test('--json holds every tensor, and totals that add up', async () => {
    const { out } = await program(['inspect', at('clip'), '--json'])
    const { kind, layout, tensors, totals, files, config } = JSON.parse(out)
    expect([kind, layout, config.vision.numHiddenLayers]).toEqual(['checkpoint', 'hf4', 4])
    expect(totals.tensors).toBe(tensors.length)
    expect(totals.bytes).toBe(tensors.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0))
    expect(totals.bytes).toBeLessThan(files[0].bytes)
    expect(totals.dtypes).toEqual({ F32: tensors.length })
  })

  test('adapters: PEFT’s and ours, also inside a run', async () => {
    const config = {
      cambium_version: 1,
      method: 'r-adapter',
      base: 'sha256:00',
      rank: 4,
      scale: null,
      drop: 0.2,
      drop_by: 'adapter',
      alpha: 0.7,
    }
    mkdirSync(at('run'))
    for (const file of ['adapter_config.json', 'adapter_model.safetensors']) cpSync(join(peft, file), at('run', 'lora', file))
    cpSync(at('clip'), at('run', 'merged'), { recursive: true })
    mkdirSync(at('run', 'adapter'))
    cpSync(at('clip', 'model.safetensors'), at('run', 'adapter', 'adapter_model.safetensors'))
    writeFileSync(at('run', 'adapter', 'adapter_config.json'), JSON.stringify(config))
    const { code, out } = await program(['inspect', at('run'), '--json'])
    expect(code).toBe(0)
    const { inside } = JSON.parse(out)
    expect(inside.map(({ kind }: { kind: string }) => kind)).toEqual(['adapter', 'adapter', 'checkpoint'])
    expect(inside[0].adapter).toMatchObject({ method: 'r-adapter', by: 'cambium', rank: 4, alpha: 0.7, base: 'sha256:00' })
    expect(inside[1].adapter).toMatchObject({ method: 'lora', by: 'peft', rank: expect.any(Number), targets: expect.any(Number) })
    const words = await program(['inspect', at('run')])
    expect(words.out).toMatch(/run: a folder with\n/)
    expect(words.out).toMatch(/r-adapter, as Cambium writes it: rank 4, alpha 0\.7/)
    expect(words.out).toMatch(/lora, as PEFT writes it: rank \d+, alpha \d+, \d+ modules/)
  })

  test('what cannot be used says why; what is nothing is an error', async () => {
    cpSync(at('clip'), at('torn'), { recursive: true })
    writeFileSync(at('torn', 'config.json'), JSON.stringify({ model_type: 'bert' }))
    const torn = await program(['inspect', at('torn')])
    expect(torn).toMatchObject({ code: 0, out: expect.stringMatching(/cannot be used as it is: .*model_type.*\(E_UNSUPPORTED\)/) })
    mkdirSync(at('odd'))
    cpSync(fixture('even', 'clip-quick-gelu', 'model.safetensors'), at('odd', 'adapter_model.safetensors'))
    writeFileSync(at('odd', 'adapter_config.json'), JSON.stringify({ peft_type: 'IA3' }))
    expect((await program(['inspect', at('odd')])).out).toMatch(/cannot be used as it is: .*"IA3" \(E_UNSUPPORTED\)/)
    mkdirSync(at('empty'))
    expect(await program(['inspect', at('empty')])).toMatchObject({ code: 1, err: expect.stringMatching(/\(E_NOT_FOUND\)/) })
    expect(await program(['inspect', at('nowhere')])).toMatchObject({ code: 1, err: expect.stringMatching(/nowhere.*\(E_NOT_FOUND\)/) })
    writeFileSync(at('short.safetensors'), 'no')
    expect(await program(['inspect', at('short.safetensors')])).toMatchObject({ code: 1, err: expect.stringMatching(/E_SAFETENSORS_/) })
    const text = await program(['inspect', at('clip', 'config.json')])
    expect(text).toMatchObject({ code: 1, err: expect.stringMatching(/config\.json: expected a safetensors file, got a text/) })
    expect((await program(['inspect'])).code).toBe(2)
  })
})

describe('doctor', () => {
  test('what the core runs on', async () => {
    process.env.CAMBIUM_CUDA_LIBRARY = at('no-library.so') // also where there is a GPU
    const { code, out, err } = await cambium(['doctor', '--json'])
    expect([code, err]).toEqual([0, ''])
    const { ok, versions, core, memory } = JSON.parse(out)
    expect(ok).toBe(true)
    expect(versions).toMatchObject({ cambium: require('../../package.json').version, node: process.versions.node })
    expect(core.levels).toContain(core.level)
    expect(core.backends).toEqual([
      { name: 'cpu', available: true },
      { name: 'cuda', available: false, reason: expect.any(String) },
    ])
    expect(memory.available).toBeLessThanOrEqual(memory.total)
    expect((await cambium(['doctor'])).out).toMatch(/^level +\w+.*, of portable.*Everything is in order\.\n$/ms)
    delete process.env.CAMBIUM_CUDA_LIBRARY
  })

  test('a core that does not load is told with its cure, exit code 1; help needs no core', async () => {
    process.env.CAMBIUM_ADDON = at('nothing.node')
    try {
      const [words, json, help] = await Promise.all([cambium(['doctor']), cambium(['doctor', '--json']), cambium(['eval', '--help'])])
      expect(words).toMatchObject({
        code: 1,
        out: expect.stringMatching(/does not load\..*tried .*nothing\.node: no such file.*to mend it: /s),
      })
      expect(JSON.parse(json.out)).toMatchObject({ ok: false, core: { error: { code: 'E_ADDON' } } })
      expect(help.code).toBe(0)
    } finally {
      delete process.env.CAMBIUM_ADDON
    }
  })
})
