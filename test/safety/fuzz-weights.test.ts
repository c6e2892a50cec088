import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadAdapter, saveAdapter } from '../../lib/checkpoint/adapter-file.js'
import { loadTensors, readRunState, writeRunState } from '../../lib/checkpoint/run-state.js'
import { openCheckpoint } from '../../lib/formats/checkpoint.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { Parameter } from '../../lib/tensor.js'
import fc from '../fast-check.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'
import { damage, fuzzing, headDamage, readsOrRefuses, wrongFile } from './mutations.js'

// Weight files of any contents: a right result or an error with a code, never a crash, a hang or memory without end.
const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let clip: Clip

beforeAll(async () => {
  clip = await Clip.load(tinyClip(at('clip')), { dtype: 'f32' })
})
afterAll(() => clip.dispose())

const small = async (path: string, seed = 1) => {
  const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 37 + seed) & 0x3f)
  await writeSafetensors(path, [
    { name: 'a.weight', dtype: 'F32', shape: [3, 5], data: bytes(60) },
    { name: 'a.bias', dtype: 'BF16', shape: [4], data: bytes(8) },
    { name: 'empty', dtype: 'F16', shape: [0, 7], data: bytes(0) },
    { name: 'ids', dtype: 'I64', shape: [2], data: bytes(16) },
    { name: 'scalar', dtype: 'F64', shape: [], data: bytes(8) },
  ])
}

/** Reads every tensor that the header names, natively. */
async function readAll(path: string): Promise<void> {
  const { tensors, size } = await openSafetensors(path)
  // Whatever passes fills the file to the byte: no hole, no byte twice.
  const spans = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  let reached = spans[0]?.offset ?? size
  for (const { offset, bytes } of spans) {
    expect(offset).toBe(reached)
    reached += bytes
  }
  expect(reached).toBe(size)
  for (const { name, path, offset, count, dtype, fileSize } of tensors.values()) {
    const code = await readsOrRefuses(async () => {
      const bytes = await native.readTensor({ path, offset, count, from: dtype, to: dtype, expectedSize: fileSize })
      expect(bytes.byteLength).toBe(tensors.get(name)!.bytes)
    })
    expect(['read', 'E_DTYPE']).toContain(code)
  }
}

test('safetensors: damaged bytes', async () => {
  await small(at('good.safetensors'))
  const good = readFileSync(at('good.safetensors'))
  const header = 8 + Number(good.readBigUInt64LE(0))
  const seen = new Set<string>()
  await fc.assert(
    fc.asyncProperty(fc.oneof(damage, headDamage(8), headDamage(header)), async (change) => {
      writeFileSync(at('bad.safetensors'), change(good))
      seen.add(await readsOrRefuses(() => readAll(at('bad.safetensors'))))
    }),
    fuzzing(10),
  )
  expect(seen.size).toBeGreaterThan(4)
})

test('safetensors: headers that lie', async () => {
  const natural = fc.oneof(fc.constantFrom(0, 1, 8, 2 ** 31, 2 ** 53, '18446744073709551615', '99999999999999999999', -1, 1.5), fc.nat(64))
  const entry = fc.record(
    {
      dtype: fc.constantFrom('F32', 'U8', 'F4', 'F64', 'X', 7),
      shape: fc.array(natural, { maxLength: 5 }),
      data_offsets: fc.array(natural, { maxLength: 3 }),
    },
    { requiredKeys: [] },
  )
  const name = fc.constantFrom('a', 'b', '__metadata__', '__proto__', 'constructor', '')
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(name, fc.oneof({ weight: 4, arbitrary: entry }, fc.jsonValue() as fc.Arbitrary<unknown>)), { maxLength: 4 }),
      fc.nat(64),
      async (entries, data) => {
        const numbers = (text: string) => text.replace(/"(\d{16,})"/g, '$1')
        const json = Buffer.from(`{${entries.map(([key, value]) => `${JSON.stringify(key)}:${numbers(JSON.stringify(value))}`).join(',')}}`)
        const length = Buffer.alloc(8)
        length.writeBigUInt64LE(BigInt(json.length))
        writeFileSync(at('lie.safetensors'), Buffer.concat([length, json, Buffer.alloc(data)]))
        await readsOrRefuses(() => readAll(at('lie.safetensors')))
      },
    ),
    fuzzing(10),
  )
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
})

test('safetensors: tensors that overlap, leave holes or end elsewhere than the file', async () => {
  const spans = fc.array(fc.tuple(fc.nat(6), fc.nat(6)), { minLength: 1, maxLength: 4 })
  const seen = new Set<string>()
  await fc.assert(
    fc.asyncProperty(spans, fc.integer({ min: -1, max: 1 }), async (list, more) => {
      const entries = list.map(([begin, size], i) => [`t${i}`, { dtype: 'U8', shape: [size], data_offsets: [begin, begin + size] }])
      const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
      const length = Buffer.alloc(8)
      length.writeBigUInt64LE(BigInt(json.length))
      const end = Math.max(0, Math.max(...list.map(([begin, size]) => begin + size)) + more)
      writeFileSync(at('spans.safetensors'), Buffer.concat([length, json, Buffer.alloc(end)]))
      seen.add(await readsOrRefuses(() => readAll(at('spans.safetensors'))))
    }),
    fuzzing(10),
  )
  expect([...seen].sort()).toEqual(['E_SAFETENSORS_INCOMPLETE', 'E_SAFETENSORS_OFFSETS', 'read'])
})

test('a sharded checkpoint: its index and its shards', async () => {
  mkdirSync(at('sharded'))
  await small(at('sharded', 'model-00001-of-00002.safetensors'))
  await small(at('sharded', 'model-00002-of-00002.safetensors'), 2)
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
  const index = JSON.stringify({
    metadata: { total_size: 92 },
    weight_map: { 'a.weight': shards[0], 'a.bias': shards[1], ids: shards[0], scalar: shards[1] },
  })
  await fc.assert(
    fc.asyncProperty(wrongFile(index), async (text) => {
      writeFileSync(at('sharded', 'model.safetensors.index.json'), text)
      await readsOrRefuses(async () => {
        const { tensors } = await openCheckpoint(at('sharded'))
        for (const { path } of tensors.values()) expect(path.startsWith(at('sharded'))).toBe(true)
      })
    }),
    fuzzing(4),
  )
})

test.each(['../good.safetensors', '/etc/hostname', '..', 'a/b.safetensors', 'C:\\x.safetensors', 'x\0.safetensors', 'model.bin'])(
  'a shard named %p is refused by its name',
  async (shard) => {
    mkdirSync(at('names'), { recursive: true })
    writeFileSync(at('names', 'model.safetensors.index.json'), JSON.stringify({ weight_map: { 'a.weight': shard } }))
    expect(await readsOrRefuses(() => openCheckpoint(at('names')))).toBe('E_SHARD_INDEX')
  },
)

test('an adapter: settings and factors', async () => {
  const adapter = new RAdapter(clip, { rank: 2 })
  await saveAdapter(adapter, at('adapter'), undefined, { alpha: 0.5 })
  adapter.dispose()
  const config = readFileSync(at('adapter', 'adapter_config.json'), 'utf8')
  const tensors = readFileSync(at('adapter', 'adapter_model.safetensors'))
  const before = native.memory().live
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        wrongFile(config),
        headDamage(2000).map((change) => change(tensors)),
      ),
      async (bytes) => {
        const ofTensors = bytes.length > 4000 && bytes[8] === 0x7b
        writeFileSync(at('adapter', 'adapter_config.json'), ofTensors ? config : bytes)
        writeFileSync(at('adapter', 'adapter_model.safetensors'), ofTensors ? bytes : tensors)
        await readsOrRefuses(async () => (await loadAdapter(clip, at('adapter'))).adapter.dispose())
      },
    ),
    fuzzing(2),
  )
  expect(native.memory().live).toBe(before) // what was refused half way is gone
})

test('the state of a run', async () => {
  const parameter = Parameter.named('w', new Float32Array(12), [3, 4])
  const state = {
    cambium: '0',
    level: 'x',
    base: 'b',
    settings: { lr: 1 },
    step: 3,
    steps: 9,
    cursor: { epoch: 0, position: 6 },
    skipped: 0,
  }
  await writeRunState(at('run'), state, [parameter])
  const text = readFileSync(at('run', 'run.json'), 'utf8')
  await fc.assert(
    fc.asyncProperty(wrongFile(text), async (bytes) => {
      writeFileSync(at('run', 'run.json'), bytes)
      await readsOrRefuses(async () => {
        const found = await readRunState(at('run'))
        if (found) await loadTensors(at('run'), found, [parameter])
      })
    }),
    fuzzing(4),
  )
  parameter.dispose()
})

test('PEFT adapters: settings and factors', async () => {
  const fixtures = join(__dirname, '../fixtures/peft')
  for (const name of ['clip-layers', 'clip-patterns', 'convolutions-dora']) {
    cpSync(join(fixtures, name), at(name), { recursive: true })
    const path = at(name, 'adapter_config.json')
    const config = readFileSync(path, 'utf8')
    const tensors = readFileSync(at(name, 'adapter_model.safetensors'))
    await fc.assert(
      fc.asyncProperty(wrongFile(config), async (bytes) => {
        writeFileSync(path, bytes)
        await readsOrRefuses(() => openPeftAdapter(at(name)))
      }),
      fuzzing(2),
    )
    writeFileSync(path, config)
    await fc.assert(
      fc.asyncProperty(headDamage(8 + Number(tensors.readBigUInt64LE(0))), async (change) => {
        writeFileSync(at(name, 'adapter_model.safetensors'), change(tensors))
        await readsOrRefuses(() => openPeftAdapter(at(name)))
      }),
      fuzzing(2),
    )
  }
})
