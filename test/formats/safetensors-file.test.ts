/** Files written and read back, and what happens when writing or reading goes wrong. */
import { appendFileSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type DiskDtype, DTYPE_BITS } from '../../lib/formats/dtype.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { type TensorToWrite, writeSafetensors } from '../../lib/formats/safetensors-write.js'
import { native } from '../../lib/native.js'
import fc from '../fast-check.js'
import { temporaryFolder } from '../temporary-folder.js'

const folder = temporaryFolder()
const whole: DiskDtype[] = ['BOOL', 'U8', 'I8', 'F16', 'BF16', 'I32', 'F32', 'I64', 'F64', 'F8_E4M3']
const tensors: fc.Arbitrary<TensorToWrite[]> = fc
  .uniqueArray(
    fc.record({ name: fc.string({ minLength: 1 }), dtype: fc.constantFrom(...whole), shape: fc.array(fc.nat(4), { maxLength: 4 }) }),
    {
      selector: ({ name }) => name,
      maxLength: 8,
    },
  )
  .map((list) =>
    list
      .filter(({ name }) => name !== '__metadata__')
      .map((info, i) => {
        const bytes = info.shape.reduce((a, b) => a * b, DTYPE_BITS[info.dtype] / 8)
        return { ...info, data: Uint8Array.from({ length: bytes }, (_, k) => (k * 7 + i) % 251) }
      }),
  )

test('what is written is read, whatever the names, types and shapes', async () => {
  const path = join(folder, 'round.safetensors')
  await fc.assert(
    fc.asyncProperty(tensors, fc.dictionary(fc.string(), fc.string()), async (list, metadata) => {
      await writeSafetensors(path, list, { metadata })
      const file = await openSafetensors(path)
      const content = readFileSync(path)
      expect(Object.fromEntries(file.metadata)).toEqual({ ...metadata })
      expect([...file.tensors.keys()].sort()).toEqual(list.map(({ name }) => name).sort())
      for (const { name, dtype, shape, data } of list) {
        const { offset, bytes, ...info } = file.tensors.get(name)!
        expect(info).toMatchObject({ dtype, shape })
        expect(new Uint8Array(content.subarray(offset, offset + bytes))).toEqual(data)
      }
    }),
    { numRuns: 60 },
  )
})

test('the layout of the file is the reference writer’s', async () => {
  const path = join(folder, 'order.safetensors')
  const one = (name: string, dtype: DiskDtype): TensorToWrite => ({
    name,
    dtype,
    shape: [1],
    data: new Uint8Array(DTYPE_BITS[dtype] / 8).fill(1),
  })
  await writeSafetensors(path, [one('b', 'F16'), one('z', 'F32'), one('a', 'F16'), one('c', 'F64'), one('d', 'U8')])
  const content = readFileSync(path)
  const length = Number(content.readBigUInt64LE(0))
  const header = content.toString('utf8', 8, 8 + length)
  expect(length % 8).toBe(0)
  expect(header.startsWith('{"__metadata__":{"format":"pt"},"c":')).toBe(true)
  expect(Object.keys(JSON.parse(header))).toEqual(['__metadata__', 'c', 'z', 'a', 'b', 'd'])
})

test('tensors may be given one at a time, and each is asked for once and in its turn', async () => {
  const path = join(folder, 'lazy.safetensors')
  let open = 0
  const lazy = (name: string): TensorToWrite => ({
    name,
    dtype: 'U8',
    shape: [3],
    data: async () => {
      expect(++open).toBe(1)
      await new Promise((done) => setTimeout(done, 1))
      open -= 1
      return new Uint8Array(3)
    },
  })
  await writeSafetensors(path, [lazy('a'), lazy('b'), lazy('c')])
  expect((await openSafetensors(path)).tensors.size).toBe(3)
})

describe('a file that cannot be written', () => {
  const old = join(folder, 'old.safetensors')
  const good: TensorToWrite = { name: 'a', dtype: 'U8', shape: [2], data: new Uint8Array(2) }
  beforeEach(() => writeFileSync(old, 'as it was'))
  afterEach(() => {
    expect(readFileSync(old, 'utf8')).toBe('as it was')
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  test.each<[string, TensorToWrite[], string]>([
    ['too few bytes', [good, { ...good, name: 'b', data: new Uint8Array(1) }], 'E_SHAPE'],
    ['a negative side', [{ ...good, shape: [-2] }], 'E_SHAPE'],
    ['half a byte', [{ ...good, dtype: 'F4', shape: [3] }], 'E_SHAPE'],
    ['a name twice', [good, good], 'E_DUPLICATE'],
    ['the name of the metadata', [{ ...good, name: '__metadata__' }], 'E_DUPLICATE'],
    [
      'data that fails',
      [good, { ...good, name: 'b', data: () => Promise.reject(Object.assign(new Error('lost'), { code: 'E_LOST' })) }],
      'E_LOST',
    ],
  ])('%s', async (_, list, code) => {
    await expect(writeSafetensors(old, list)).rejects.toMatchObject({ code })
  })

  test('an abort', async () => {
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(writeSafetensors(old, [good], { signal })).rejects.toThrow('enough')
  })

  test('a folder that is not there', async () => {
    await expect(writeSafetensors(join(folder, 'no', 'x.safetensors'), [good])).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
  })
})

describe('reading', () => {
  test('no file, a folder', async () => {
    await expect(openSafetensors(join(folder, 'none'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
    await expect(openSafetensors(folder)).rejects.toMatchObject({ code: 'E_IO' })
  })

  test('a link to a file is a file', async () => {
    const path = join(folder, 'target.safetensors')
    await writeSafetensors(path, [{ name: 'a', dtype: 'U8', shape: [2], data: new Uint8Array([1, 2]) }])
    symlinkSync(path, join(folder, 'link.safetensors'))
    expect((await openSafetensors(join(folder, 'link.safetensors'))).size).toBe(statSync(path).size)
  })

  const request = async (path: string) => {
    const { tensors, size } = await openSafetensors(path)
    const { offset, count, dtype } = tensors.get('a')!
    return { path, offset, count, from: dtype, to: 'f32', expectedSize: size }
  }
  const halves = {
    name: 'a',
    dtype: 'F16',
    shape: [2, 3],
    data: new Uint8Array(new Uint16Array([0x3c00, 0x4000, 0x4200, 0xc400, 0x3555, 0x0001]).buffer),
  } as const

  test('values come converted, and transposed where asked', async () => {
    const path = join(folder, 'halves.safetensors')
    await writeSafetensors(path, [halves])
    const values = [1, 2, 3, -4, 0.333251953125, 2 ** -24]
    expect([...new Float32Array(await native.readTensor(await request(path)))]).toEqual(values)
    const turned = new Float32Array(await native.readTensor({ ...(await request(path)), transposeRows: 2 }))
    expect([...turned]).toEqual([0, 3, 1, 4, 2, 5].map((i) => values[i]))
  })

  test.each<[string, (path: string) => void]>([
    ['cut', (path) => truncateSync(path, statSync(path).size - 4)],
    ['longer', (path) => appendFileSync(path, 'x')],
  ])('a file that is %s since its header was read is an error, not a crash', async (_, change) => {
    const path = join(folder, 'changing.safetensors')
    await writeSafetensors(path, [halves])
    const read = await request(path)
    change(path)
    await expect(native.readTensor(read)).rejects.toMatchObject({ code: 'E_FILE_CHANGED' })
  })

  test('a type that holds no numbers for us is refused by name', async () => {
    const path = join(folder, 'eight.safetensors')
    await writeSafetensors(path, [{ name: 'a', dtype: 'F8_E4M3', shape: [2], data: new Uint8Array(2) }])
    const read = await request(path)
    await expect((async () => native.readTensor(read))()).rejects.toMatchObject({ code: 'E_DTYPE' })
  })
})
