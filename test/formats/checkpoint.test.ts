/** Folders with one file, with shards, with the wrong things. */
import { mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openCheckpoint, writeCheckpoint } from '../../lib/formats/checkpoint.js'
import type { TensorToWrite } from '../../lib/formats/safetensors-write.js'
import { parseShardIndex } from '../../lib/formats/shard-index.js'
import { temporaryFolder } from '../temporary-folder.js'

const root = temporaryFolder()
let count = 0
function fresh(): string {
  const folder = join(root, `case-${count++}`)
  mkdirSync(folder)
  return folder
}
const tensor = (name: string, bytes = 10): TensorToWrite => ({
  name,
  dtype: 'U8',
  shape: [bytes],
  data: new Uint8Array(bytes).fill(name.charCodeAt(0)),
})
const abc = ['a', 'b', 'c', 'd'].map((name) => tensor(name))
const INDEX = 'model.safetensors.index.json'

async function sharded(): Promise<string> {
  const folder = fresh()
  await writeCheckpoint(folder, abc, { maxShardBytes: 25 })
  return folder
}

test('one file below the limit', async () => {
  const folder = fresh()
  expect(await writeCheckpoint(folder, abc)).toEqual(['model.safetensors'])
  expect([...(await openCheckpoint(folder)).tensors.keys()]).toEqual(['a', 'b', 'c', 'd'])
})

test('shards above it, none over the limit unless one tensor is', async () => {
  const folder = fresh()
  const written = await writeCheckpoint(folder, [...abc, tensor('e', 99), tensor('f')], { maxShardBytes: 25 })
  const shards = [1, 2, 3, 4].map((i) => `model-0000${i}-of-00004.safetensors`)
  expect(written).toEqual([...shards, INDEX])
  const index = JSON.parse(readFileSync(join(folder, INDEX), 'utf8'))
  expect(index).toEqual({
    metadata: { total_size: 149 },
    weight_map: { a: shards[0], b: shards[0], c: shards[1], d: shards[1], e: shards[2], f: shards[3] },
  })
  const checkpoint = await openCheckpoint(folder)
  expect(checkpoint.tensors.get('c')).toMatchObject({ path: join(folder, shards[1]), bytes: 10 })
  expect(checkpoint.metadata.get('format')).toBe('pt')
})

test('an older checkpoint does not shine through a newer one', async () => {
  const folder = await sharded()
  writeFileSync(join(folder, 'config.json'), '{}')
  await writeCheckpoint(folder, [tensor('z')])
  expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors'])
  await writeCheckpoint(folder, abc, { maxShardBytes: 10 })
  expect([...(await openCheckpoint(folder)).tensors.keys()]).toEqual(['a', 'b', 'c', 'd'])
})

test('a file may be named itself, also an index', async () => {
  const folder = await sharded()
  expect((await openCheckpoint(join(folder, INDEX))).tensors.size).toBe(4)
  expect((await openCheckpoint(join(folder, 'model-00001-of-00002.safetensors'))).tensors.size).toBe(2)
})

test('open_clip’s file name', async () => {
  const folder = fresh()
  await writeCheckpoint(folder, abc, { stem: 'open_clip_model' })
  expect((await openCheckpoint(folder)).files).toEqual([join(folder, 'open_clip_model.safetensors')])
})

describe('refused', () => {
  test('a missing shard is named', async () => {
    const folder = await sharded()
    unlinkSync(join(folder, 'model-00002-of-00002.safetensors'))
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'E_SHARD_MISSING',
      message: expect.stringContaining('model-00002-of-00002.safetensors'),
    })
  })

  test('a tensor that is not in its shard', async () => {
    const folder = await sharded()
    const index = JSON.parse(readFileSync(join(folder, INDEX), 'utf8'))
    index.weight_map.a = 'model-00002-of-00002.safetensors'
    writeFileSync(join(folder, INDEX), JSON.stringify(index))
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      code: 'E_SHARD_INDEX',
      message: expect.stringContaining('expected a in model-00002'),
    })
  })

  test.each([
    ['a folder up', '../model.safetensors'],
    ['an absolute path', '/etc/model.safetensors'],
    ['a path below', 'sub/model.safetensors'],
    ['a Windows path', '..\\model.safetensors'],
    ['a drive', 'C:model.safetensors'],
    ['a NUL', 'a\0.safetensors'],
    ['another kind of file', 'model.bin'],
    ['no name', '.safetensors/'],
  ])('%s in the index', (_, name) => {
    expect(() => parseShardIndex(JSON.stringify({ weight_map: { a: name } }), 'index')).toThrow(
      expect.objectContaining({ code: 'E_SHARD_INDEX' }),
    )
  })

  test.each([
    ['no JSON', '{'],
    ['no map', '{}'],
    ['a list', '{"weight_map": []}'],
    ['a number', '{"weight_map": {"a": 1}}'],
    ['a tensor twice', '{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}'],
    [
      '10,001 shards',
      JSON.stringify({ weight_map: Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `${i}.safetensors`])) }),
    ],
  ])('an index with %s', (_, text) => {
    expect(() => parseShardIndex(text, 'index')).toThrow(expect.objectContaining({ code: 'E_SHARD_INDEX' }))
  })

  test('a link out of the folder', async () => {
    const folder = await sharded()
    const shard = join(folder, 'model-00001-of-00002.safetensors')
    const outside = join(fresh(), 'outside.safetensors')
    renameSync(shard, outside)
    symlinkSync(outside, shard)
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'E_LINK' })
  })

  test.each(['pytorch_model.bin', 'open_clip_pytorch_model.bin', 'ViT-B-32.pt'])('%s, with the way to convert it', async (name) => {
    const folder = fresh()
    writeFileSync(join(folder, name), 'x')
    for (const path of [folder, join(folder, name)]) {
      await expect(openCheckpoint(path)).rejects.toMatchObject({ code: 'E_PICKLE', message: expect.stringContaining('save_file') })
    }
  })

  test('an empty folder, and none', async () => {
    await expect(openCheckpoint(fresh())).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
    const message = `${join(root, 'none')}: expected a checkpoint on disk (nothing is downloaded), got no such file or folder`
    await expect(openCheckpoint(join(root, 'none'))).rejects.toMatchObject({ code: 'E_NOT_FOUND', message })
  })
})

test('links inside the folder, and from snapshots to blobs as in the Hugging Face cache, are followed', async () => {
  const blobs = join(root, 'models--x', 'blobs')
  const snapshot = join(root, 'models--x', 'snapshots', 'abc')
  mkdirSync(blobs, { recursive: true })
  mkdirSync(snapshot, { recursive: true })
  await writeCheckpoint(blobs, abc)
  symlinkSync('../../blobs/model.safetensors', join(snapshot, 'model.safetensors'))
  expect((await openCheckpoint(snapshot)).tensors.size).toBe(4)
})
