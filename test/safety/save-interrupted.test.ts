import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadAdapter, saveAdapter } from '../../lib/checkpoint/adapter-file.js'
import { merge } from '../../lib/checkpoint/merge.js'
import { loadTensors, readRunState, writeRunState } from '../../lib/checkpoint/run-state.js'
import { writeFileAtomic } from '../../lib/formats/atomic-file.js'
import { COMMIT_RECORD, finishFolder } from '../../lib/formats/atomic-folder.js'
import { openClipFolder } from '../../lib/formats/clip-files.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { Parameter } from '../../lib/tensor.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'
import { stopAtChange } from './frozen-files.js'
import { contents, expectReadable, expectSame } from './readable.js'

jest.mock('../../lib/files.js', () => ({ ...jest.requireActual('../../lib/files.js'), __esModule: true }))

// Whatever is saved is stopped before every single change that it makes to files: the folder then holds what was there before or
// what was to be, in full, for us at once; other programs at worst see a folder without its config.json.
jest.setTimeout(600_000) // a busy machine is no failure
const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let clip: Clip
let adapter: RAdapter
let models: Clip[]

beforeAll(async () => {
  clip = await Clip.load(tinyClip(at('clip')), { dtype: 'f32' })
  adapter = new RAdapter(clip, { rank: 2 })
  for (const [i, parameter] of adapter.parameters.entries())
    parameter.write(Float32Array.from({ length: parameter.count }, (_, j) => Math.sin(i + j) / 10))
  models = [await merge(clip, adapter, { alpha: 0.25 }), await merge(clip, adapter, { alpha: 1 })]
})
afterAll(() => {
  for (const model of models) model.dispose()
  adapter.dispose()
  clip.dispose()
})

/** Every way to stop `save` over a copy of `before`; `look` judges what is left. Returns how many ways there were. */
async function stopEverywhere(before: string | undefined, save: (out: string) => Promise<unknown>, look: (out: string) => Promise<void>) {
  for (let limit = 0; ; limit++) {
    const out = at('stopped')
    rmSync(out, { recursive: true, force: true })
    if (before !== undefined) cpSync(before, out, { recursive: true })
    const { ended } = await stopAtChange(limit, () => save(out))
    if (existsSync(out)) await look(out)
    if (ended) return limit
  }
}

const named = (folder: string) => contents(folder, (name) => !name.startsWith('.'))

describe.each([
  ['one file', undefined],
  ['shards', 1_500_000],
])('a model saved as %s', (shape, maxShardBytes) => {
  const save = (model: number) => (out: string) => models[model].save(out, { maxShardBytes })

  test('into a new folder: nothing, or all of it', async () => {
    const whole = at(`new ${shape}`)
    await save(1)(whole)
    const ways = await stopEverywhere(undefined, save(1), async (out) => {
      await expectReadable(out)
      // What another program sees: no configuration, no model.
      if (existsSync(join(out, 'config.json'))) expectSame(named(out), contents(whole))
      const code = await openClipFolder(out).then(
        () => undefined,
        (error) => error.code,
      )
      expect([undefined, 'E_NOT_FOUND']).toContain(code)
      if (code === undefined) expectSame(contents(out), contents(whole))
    })
    expect(ways).toBeGreaterThan(20)
  })

  test('over another model in other files: the old one, or the new one', async () => {
    const [old, whole] = [at(`old ${shape}`), at(`over ${shape}`)]
    await models[0].save(old, { maxShardBytes: maxShardBytes === undefined ? 1_500_000 : 1_000_000 })
    mkdirSync(join(old, '.git'))
    cpSync(at('clip', 'vocab.json'), join(old, 'notes.json'))
    cpSync(old, whole, { recursive: true })
    await save(1)(whole)
    expect(named(whole).has('notes.json') && existsSync(join(whole, '.git'))).toBe(true)
    let [kept, made] = [0, 0]
    await stopEverywhere(old, save(1), async (out) => {
      await expectReadable(out)
      await openClipFolder(out)
      const isNew = contents(out).has('model.safetensors') === contents(whole).has('model.safetensors') && sameIndex(out, whole)
      expectSame(contents(out), contents(isNew ? whole : old))
      if (isNew) made++
      else kept++
    })
    expect(Math.min(kept, made)).toBeGreaterThan(5)
  })
})

function sameIndex(a: string, b: string): boolean {
  const index = (folder: string) => contents(folder).get('model.safetensors.index.json')?.toString()
  return index(a) === index(b)
}

test('an adapter over another: never the factors of one with the settings of the other', async () => {
  await saveAdapter(adapter, at('first'), undefined, { alpha: 0.25 })
  const averages = new Map(adapter.parameters.map((p) => [p.name, Parameter.named(p.name, null, p.shape)]))
  await saveAdapter(adapter, at('second'), averages, { alpha: 0.75 })
  const seen = new Set<number | undefined>()
  await stopEverywhere(
    at('first'),
    (out) => saveAdapter(adapter, out, averages, { alpha: 0.75 }),
    async (out) => {
      const { adapter: found, info } = await loadAdapter(clip, out)
      found.dispose()
      seen.add(info.alpha)
      expectSame(contents(out), contents(at(info.alpha === 0.25 ? 'first' : 'second')))
    },
  )
  expect([...seen].sort()).toEqual([0.25, 0.75])
  for (const tensor of averages.values()) tensor.dispose()
})

test('the state of a run: the one before, or the one after', async () => {
  const values = Parameter.named('w', new Float32Array(300), [300])
  const state = (step: number) => ({
    cambium: '0',
    level: 'any',
    base: 'b',
    settings: {},
    step,
    steps: 9,
    cursor: { epoch: 0, position: 0 },
    skipped: 0,
  })
  const write = (out: string, step: number) => {
    values.write(new Float32Array(300).fill(step))
    return writeRunState(out, state(step), [values])
  }
  await write(at('run'), 1)
  const seen = new Set<number>()
  await stopEverywhere(
    at('run'),
    (out) => write(out, 2),
    async (out) => {
      await expectReadable(out)
      const found = (await readRunState(out))!
      seen.add(found.step)
      await loadTensors(out, found, [values])
      expect(named(out).size).toBe(2) // the state that does not count goes with the next start
      const bytes = contents(out).get(found.tensors)!
      expect(new Float32Array(bytes.buffer.slice(bytes.byteOffset + bytes.length - 4, bytes.byteOffset + bytes.length))[0]).toBe(found.step)
    },
  )
  expect([...seen].sort()).toEqual([1, 2])
  values.dispose()
})

test('what killed processes left goes with the next write; what others write, and names of others, stay', async () => {
  mkdirSync(at('left'))
  const dead = spawnSync(process.execPath, ['--version']).pid
  const names = {
    dead: `.run.json.${dead}-7.cambium.tmp`,
    deadFolder: `.folder.${dead}-8.cambium.tmp`,
    living: `.run.json.${process.ppid}-9.cambium.tmp`,
    ours: `.run.json.${process.pid}-10.cambium.tmp`,
    before: `.run.json.${process.pid}-11.cambium.tmp`, // of a process that had our number, as in a container
    foreign: `.run.json.${dead}-12.tmp`,
  }
  for (const name of Object.values(names)) {
    if (name === names.deadFolder) mkdirSync(at('left', name))
    writeFileSync(name === names.deadFolder ? at('left', name, 'x') : at('left', name), 'half')
  }
  utimesSync(at('left', names.before), 1, 1)
  await writeFileAtomic(at('left', 'run.json'), '{}')
  expect(readdirSync(at('left')).sort()).toEqual(['run.json', names.living, names.ours, names.foreign].sort())
})

test('a commit record that came with a folder reaches no file outside it', async () => {
  for (const [i, stale] of ['["../keep.txt"]', '[".."]', '["/etc/x"]', '{}', '[7]', 'no JSON'].entries()) {
    const out = at(`record-${i}`)
    mkdirSync(join(out, COMMIT_RECORD), { recursive: true })
    writeFileSync(at('keep.txt'), 'kept')
    writeFileSync(join(out, COMMIT_RECORD, '.stale.json'), stale)
    await expect(finishFolder(out)).rejects.toMatchObject({ code: 'E_IO' })
    expect(existsSync(at('keep.txt'))).toBe(true)
  }
})
