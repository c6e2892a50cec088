/** Every rule of the format, each broken alone; and what must be accepted. */

import { headerLength, MAX_HEADER_BYTES, parseHeader } from '../../lib/formats/safetensors-header.js'
import fc from '../fast-check.js'

const encode = (text: string) => new TextEncoder().encode(text)
const parse = (json: unknown, dataBytes: number) => parseText(typeof json === 'string' ? json : JSON.stringify(json), dataBytes)
function parseText(text: string, dataBytes: number) {
  const bytes = encode(text)
  return parseHeader(bytes, 8 + bytes.byteLength + dataBytes, 'file')
}
const tensor = (dtype: string, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets })
const ok = tensor('F32', [2, 2], [0, 16])

function codeOf(run: () => unknown): string | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return (error as { code?: string }).code
  }
}

describe('the eight bytes of the length', () => {
  const first = (length: bigint) => new Uint8Array(new BigUint64Array([length]).buffer)

  test.each([
    ['a file of 7 bytes', new Uint8Array(7), 7, 'HEADER_TOO_SMALL'],
    ['an empty file', new Uint8Array(0), 0, 'HEADER_TOO_SMALL'],
    ['100 MB and one', first(BigInt(MAX_HEADER_BYTES) + 1n), 2e8, 'HEADER_TOO_LARGE'],
    ['2^64 - 1', first(2n ** 64n - 1n), 2e8, 'HEADER_TOO_LARGE'],
    ['longer than the file', first(93n), 100, 'HEADER_LENGTH'],
  ])('%s is refused', (_, bytes, fileSize, rule) => {
    expect(codeOf(() => headerLength(bytes, fileSize, 'file'))).toBe(`E_SAFETENSORS_${rule}`)
  })

  test('a header that fills the file is taken', () => expect(headerLength(first(92n), 100, 'file')).toBe(92))
})

describe('a header that breaks one rule is refused with that rule', () => {
  test.each<[string, unknown, number, string]>([
    ['no JSON', '{"a"', 0, 'HEADER_JSON'],
    ['a list', '[]', 0, 'HEADER_JSON'],
    ['text after the object', '{} x', 0, 'HEADER_JSON'],
    ['a byte order mark', '\uFEFF{}', 0, 'HEADER_JSON'],
    ['a tensor that is a number', { a: 1 }, 0, 'HEADER_JSON'],
    ['metadata that is a list', { __metadata__: [] }, 0, 'HEADER_JSON'],
    ['metadata with a number', { __metadata__: { a: 1 } }, 0, 'HEADER_JSON'],
    ['an unknown type', { a: tensor('F33', [1], [0, 4]) }, 4, 'HEADER_JSON'],
    ['a type named like a method', { a: tensor('toString', [1], [0, 4]) }, 4, 'HEADER_JSON'],
    ['no type', { a: { shape: [1], data_offsets: [0, 4] } }, 4, 'HEADER_JSON'],
    ['no shape', { a: { dtype: 'F32', data_offsets: [0, 4] } }, 4, 'HEADER_JSON'],
    ['no offsets', { a: { dtype: 'F32', shape: [1] } }, 4, 'HEADER_JSON'],
    ['three offsets', { a: tensor('F32', [1], [0, 4, 4]) }, 4, 'HEADER_JSON'],
    ['a negative offset', { a: tensor('F32', [1], [-4, 0]) }, 4, 'HEADER_JSON'],
    ['a fraction', { a: tensor('F32', [1], [0.5, 4]) }, 4, 'HEADER_JSON'],
    ['an exponent', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4e0]}}', 4, 'HEADER_JSON'],
    ['a side as text', { a: tensor('F32', ['1'], [0, 4]) }, 4, 'HEADER_JSON'],
    ['an offset above 2^64', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551616]}}', 4, 'HEADER_JSON'],
    ['the same tensor twice', `{"a":${JSON.stringify(ok)},"a":${JSON.stringify(ok)}}`, 16, 'DUPLICATE_KEY'],
    ['the same field twice', '{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4, 'DUPLICATE_KEY'],
    ['the same tensor twice, once escaped', `{"a":${JSON.stringify(ok)},"\\u0061":${JSON.stringify(ok)}}`, 16, 'DUPLICATE_KEY'],
    ['two metadata', '{"__metadata__":{},"__metadata__":{}}', 0, 'DUPLICATE_KEY'],
    ['two tensors over one range', { a: ok, b: ok }, 16, 'OFFSETS'],
    ['an overlap of a byte', { a: ok, b: tensor('F32', [2, 2], [15, 31]) }, 31, 'OFFSETS'],
    ['a hole', { a: ok, b: tensor('F32', [1], [20, 24]) }, 24, 'OFFSETS'],
    ['not starting at zero', { a: tensor('F32', [1], [4, 8]) }, 8, 'OFFSETS'],
    ['an end before the begin', { a: tensor('F32', [0], [0, 0]), b: tensor('F32', [1], [4, 0]) }, 4, 'OFFSETS'],
    [
      'begins that differ only above 2^53',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[9007199254740993,9007199254740994]}}',
      1,
      'OFFSETS',
    ],
    ['data that ends early', { a: ok }, 15, 'INCOMPLETE'],
    ['bytes after the data', { a: ok }, 17, 'INCOMPLETE'],
    ['bytes without a tensor', {}, 1, 'INCOMPLETE'],
    ['an end far outside', '{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,9007199254740993]}}', 1, 'OVERFLOW'],
    ['a shape that is too small', { a: tensor('F32', [3], [0, 16]) }, 16, 'TENSOR_INFO'],
    ['a shape that is too large', { a: tensor('F32', [5], [0, 16]) }, 16, 'TENSOR_INFO'],
    ['a scalar of sixteen bytes', { a: tensor('F32', [], [0, 16]) }, 16, 'TENSOR_INFO'],
    ['elements above 2^64', '{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', 0, 'OVERFLOW'],
    ['bits above 2^64', '{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}', 0, 'OVERFLOW'],
    [
      'a product that wraps to the right size',
      '{"a":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}',
      0,
      'OVERFLOW',
    ],
    ['half a byte', { a: tensor('F4', [3], [0, 2]) }, 2, 'MISALIGNED'],
    ['six bits', { a: tensor('F6_E2M3', [2], [0, 2]) }, 2, 'MISALIGNED'],
  ])('%s', (_, json, dataBytes, rule) => {
    expect(codeOf(() => parse(json, dataBytes))).toBe(`E_SAFETENSORS_${rule}`)
  })

  test('bytes that are no UTF-8', () => {
    const bytes = new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])
    expect(codeOf(() => parseHeader(bytes, 8 + bytes.byteLength, 'file'))).toBe('E_SAFETENSORS_HEADER_UTF8')
  })

  test('deep nesting does not end the program', () => {
    expect(codeOf(() => parse(`{"a":${'['.repeat(100_000)}`, 0))).toBe('E_SAFETENSORS_HEADER_JSON')
  })

  test('the message names the file, the tensor and both sides', () => {
    expect(() => parse({ layer: tensor('F32', [3], [0, 16]) }, 16)).toThrow('file: layer: expected 12 bytes for shape [3] of F32, got 16')
  })
})

describe('accepted', () => {
  test('an empty object', () => expect(parse('{}', 0).tensors.size).toBe(0))
  test('space before and after', () => expect(parse(' \n{}   ', 0).tensors.size).toBe(0))
  test('a scalar', () =>
    expect(parse({ a: tensor('F32', [], [0, 4]) }, 4).tensors.get('a')).toMatchObject({ count: 1, bytes: 4, shape: [] }))
  test('a tensor without elements', () => expect(parse({ a: tensor('F32', [0, 7], [0, 0]), b: ok }, 16).tensors.get('a')?.count).toBe(0))
  test('packed elements that fill bytes', () => expect(parse({ a: tensor('F4', [4], [0, 2]) }, 2).tensors.get('a')?.count).toBe(4))
  test('any order of names, any alignment', () => {
    const { tensors } = parse({ z: tensor('U8', [3], [0, 3]), a: tensor('F32', [1], [3, 7]) }, 7)
    const z = tensors.get('z')
    expect((tensors.get('a')?.offset ?? 0) - (z?.offset ?? 0)).toBe(3)
  })
  test('__proto__ is a name like any other', () => {
    const { tensors } = parse(`{"__proto__":${JSON.stringify(ok)}}`, 16)
    expect(tensors.get('__proto__')?.bytes).toBe(16)
    expect(({} as { dtype?: string }).dtype).toBeUndefined()
  })
  test('metadata', () => expect(parse({ __metadata__: { format: 'pt' } }, 0).metadata.get('format')).toBe('pt'))
})

test('no header makes the parser fail in any other way than with a rule', () => {
  const value = fc.oneof(
    fc.json(),
    fc.string(),
    fc.jsonValue().map((json) => JSON.stringify({ a: json })),
    fc
      .record({
        dtype: fc.constantFrom('F32', 'U8', 'F4', 'X'),
        shape: fc.array(fc.maxSafeInteger(), { maxLength: 4 }),
        data_offsets: fc.array(fc.nat(40), { maxLength: 3 }),
      })
      .map((info) => JSON.stringify({ a: info, b: { ...info } })),
  )
  fc.assert(
    fc.property(value, fc.nat(40), (text, dataBytes) => {
      const code = codeOf(() => parseText(text, dataBytes))
      return code === undefined || code.startsWith('E_SAFETENSORS_')
    }),
    { numRuns: 2000 },
  )
})

test('what is accepted covers the data exactly once', () => {
  const infos = fc.array(fc.record({ dtype: fc.constantFrom('U8', 'F16', 'F32'), count: fc.nat(5) }), { maxLength: 8 })
  fc.assert(
    fc.property(infos, fc.nat(3), (list, cut) => {
      const sizes = { U8: 1, F16: 2, F32: 4 } as Record<string, number>
      let at = 0
      const header = Object.fromEntries(
        list.map(({ dtype, count }, i) => {
          const begin = at
          at += count * sizes[dtype]
          return [`t${i}`, tensor(dtype, [count], [begin, at])]
        }),
      )
      if (cut > 0) return codeOf(() => parse(header, at + cut)) === 'E_SAFETENSORS_INCOMPLETE'
      const covered = [...parse(header, at).tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0)
      return covered === at
    }),
  )
})

test('a pointer of git-lfs is told as one', () => {
  const pointer = Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n')
  expect(() => headerLength(pointer, pointer.length, 'm')).toThrow(/^m: expected a safetensors file, got a pointer of git-lfs/)
})
