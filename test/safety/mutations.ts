/** Files of ours made wrong in the ways that damage and malice do, and the rule that whoever reads them must keep. */
import fc from '../fast-check.js'

/** More inputs with CAMBIUM_FUZZ, others with CAMBIUM_FUZZ_SEED (fast-check.ts). */
const RUNS = Number(process.env.CAMBIUM_FUZZ ?? 60)
export const fuzzing = (share = 1): fc.Parameters<unknown> => ({
  numRuns: Math.max(10, Math.round(RUNS * share)),
  endOnFailure: true,
})

/** A reader gives a result or an error with a code of ours; what else it throws fails the test. */
export async function readsOrRefuses(read: () => unknown): Promise<'read' | string> {
  try {
    await read()
    return 'read'
  } catch (error) {
    const { code } = error as { code?: unknown }
    if (typeof code === 'string' && /^E_[A-Z0-9_]+$/.test(code)) return code
    throw error
  }
}

type Edit = (bytes: Buffer) => Buffer
const place = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })
/** Lies about lengths, offsets and counts. */
const NUMBERS = [0n, 1n, 7n, 8n, 127n, 255n, 65535n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]

const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(place, fc.integer({ min: 0, max: 7 })).map(([at, bit]) => (bytes: Buffer) => {
    const out = Buffer.from(bytes)
    if (out.length > 0) out[Math.floor(at * out.length)] ^= 1 << bit
    return out
  }),
  place.map((at) => (bytes: Buffer) => bytes.subarray(0, Math.floor(at * bytes.length))),
  fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 40 })).map(([at, more]) => (bytes: Buffer) => {
    const cut = Math.floor(at * (bytes.length + 1))
    return Buffer.concat([bytes.subarray(0, cut), more, bytes.subarray(cut)])
  }),
  fc.tuple(place, place, fc.integer({ min: 1, max: 200 })).map(([from, to, length]) => (bytes: Buffer) => {
    const [a, b] = [Math.floor(from * bytes.length), Math.floor(to * bytes.length)]
    return Buffer.concat([bytes.subarray(0, b), bytes.subarray(a, a + length), bytes.subarray(b)]) // a part again, elsewhere
  }),
  fc.tuple(place, fc.constantFrom(...NUMBERS), fc.constantFrom(2, 4, 8), fc.boolean()).map(([at, value, width, big]) => (bytes: Buffer) => {
    const out = Buffer.from(bytes)
    const start = Math.floor(at * out.length)
    for (let i = 0; i < width && start + i < out.length; i++)
      out[start + i] = Number((value >> BigInt(8 * (big ? width - 1 - i : i))) & 0xffn)
    return out
  }),
)

/** One to four edits; each function leaves its argument as it is. */
export const damage: fc.Arbitrary<Edit> = fc
  .array(edit, { minLength: 1, maxLength: 4 })
  .map((edits) => (bytes: Buffer) => edits.reduce((now, change) => change(now), bytes))

/** The same in the first part of a file, where headers are. */
export const headDamage = (length: number): fc.Arbitrary<Edit> =>
  damage.map((change) => (bytes: Buffer) => Buffer.concat([change(bytes.subarray(0, length)), bytes.subarray(length)]))

/** `depth` lists in each other. */
export const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)

/** Values that no field expects. */
const hostile = fc.constantFrom<unknown>(
  null,
  true,
  false,
  0,
  -0,
  -1,
  1,
  3,
  0.5,
  2 ** 31,
  2 ** 53,
  1e15,
  1e308,
  -1e308,
  5e-324,
  '',
  '0',
  'NaN',
  '../../etc/passwd',
  '\u0000',
  '\ud800',
  'x'.repeat(70_000),
  [],
  [[]],
  [null],
  {},
  { __proto__: 1 },
  JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'),
  JSON.parse(nested(40)),
  Array.from({ length: 2000 }, (_, i) => i),
)

/** A JSON value with one to three of its parts replaced, removed or renamed. */
export function wrongJson(value: unknown): fc.Arbitrary<unknown> {
  const paths: (string | number)[][] = []
  const walk = (node: unknown, path: (string | number)[]) => {
    if (path.length > 0) paths.push(path)
    if (typeof node !== 'object' || node === null || path.length > 5) return
    const keys = Array.isArray(node) ? node.slice(0, 4).map((_, i) => i) : Object.keys(node).slice(0, 60)
    for (const key of keys) walk((node as Record<string | number, unknown>)[key], [...path, key])
  }
  walk(value, [])
  const change = fc.tuple(fc.constantFrom(...paths), fc.constantFrom('replace', 'replace', 'remove', 'rename'), hostile)
  return fc.array(change, { minLength: 1, maxLength: 3 }).map((changes) => {
    const out = structuredClone(value)
    for (const [path, what, instead] of changes) apply(out, path, what, instead)
    return out
  })
}

function apply(root: unknown, path: readonly (string | number)[], what: string, instead: unknown): void {
  let node = root as Record<string | number, unknown> | undefined
  for (const key of path.slice(0, -1)) node = node?.[key] as typeof node
  const last = path[path.length - 1]
  if (typeof node !== 'object' || node === null || !Object.hasOwn(node, last)) return
  if (what === 'replace') node[last] = instead
  else {
    const old = node[last]
    if (Array.isArray(node)) node.splice(Number(last), 1)
    else delete node[last]
    if (what === 'rename') node[`${last}_`] = old
  }
}

/** A text file with wrong JSON, or damaged bytes. */
export const wrongFile = (text: string): fc.Arbitrary<Buffer> =>
  fc.oneof(
    wrongJson(JSON.parse(text)).map((value) => Buffer.from(JSON.stringify(value))),
    damage.map((change) => change(Buffer.from(text))),
  )
