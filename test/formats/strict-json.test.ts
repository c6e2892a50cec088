import { parseStrictJson, type StrictJson, StrictJsonError } from '../../lib/formats/strict-json.js'
import fc from '../fast-check.js'

/** Back to what JSON.parse gives, where it loses nothing. */
function plain(value: StrictJson): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, entry]) => [key, plain(entry)]))
  if (Array.isArray(value)) return value.map(plain)
  return typeof value === 'bigint' ? Number(value) : value
}

test('agrees with JSON.parse on every JSON text', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), (text) => {
      expect(JSON.stringify(plain(parseStrictJson(text)))).toBe(JSON.stringify(JSON.parse(text)))
    }),
  )
})

test('refuses what JSON.parse refuses', () => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '1',
    '-',
    '0',
    '01',
    '1.',
    '.5',
    '1e5',
    'true',
    'nul',
    '"',
    '\\',
    '\t',
    '"\\x"',
    '"\n"',
  )
  fc.assert(
    fc.property(
      fc.array(pieces, { maxLength: 8 }).map((list) => list.join('')),
      (text) => {
        const accepts = (parse: (text: string) => unknown) => {
          try {
            parse(text)
            return true
          } catch (error) {
            return error instanceof StrictJsonError && error.duplicateKey !== undefined
          }
        }
        expect(accepts(parseStrictJson)).toBe(accepts(JSON.parse))
      },
    ),
    { numRuns: 3000 },
  )
})

test('keeps every digit of an integer', () => expect(parseStrictJson('9007199254740993')).toBe(9007199254740993n))
test('a repeated key is named', () => {
  expect(() => parseStrictJson('{"x": {"k": 1, "k": 2}}')).toThrow('expected each key once, got "k" again at character 15')
})
test('a text that ends early says where', () => expect(() => parseStrictJson('{"a": [1, 2')).toThrow("expected ']' at character 11"))

test('what would take minutes or gigabytes is refused', () => {
  expect(() => parseStrictJson(`[${'9'.repeat(5_000_000)}]`)).toThrow(StrictJsonError)
  expect(() => parseStrictJson(`[${'1,'.repeat(10_000_001)}1]`)).toThrow(StrictJsonError)
  expect(parseStrictJson(`"${'\\n'.repeat(100_000)}"`)).toBe('\n'.repeat(100_000))
})
