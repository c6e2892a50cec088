import { native } from '../../lib/native.js'

// Philox4x32-10 (Salmon et al. 2011), written again from the paper, against its published answers and against the core.
const mask = 0xffffffffn

function philox(counter: readonly bigint[], key: readonly bigint[]): bigint[] {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < 10; ++round) {
    const p0 = 0xd2511f53n * c0
    const p1 = 0xcd9e8d57n * c2
    ;[c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask]
    k0 = (k0 + 0x9e3779b9n) & mask
    k1 = (k1 + 0xbb67ae85n) & mask
  }
  return [c0, c1, c2, c3]
}

/** What random() documents: counter (⌊i/4⌋ low, high, step, site), key (seed low, high), 24 bits of word i mod 4. */
function uniform(seed: bigint, step: number, site: number, i: number): number {
  const block = BigInt(Math.floor(i / 4))
  const words = philox([block & mask, block >> 32n, BigInt(step), BigInt(site)], [seed & mask, (seed >> 32n) & mask])
  return Number(words[i % 4] >> 8n) / 2 ** 24
}

test('known answers (Random123, kat_vectors)', () => {
  const hex = (words: bigint[]) => words.map((word) => word.toString(16).padStart(8, '0')).join(' ')
  expect(hex(philox([0n, 0n, 0n, 0n], [0n, 0n]))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8')
  expect(hex(philox([mask, mask, mask, mask], [mask, mask]))).toBe('408f276d 41c83b0e a20bc7c6 6d5451fd')
  const pi = [0x243f6a88n, 0x85a308d3n, 0x13198a2en, 0x03707344n]
  expect(hex(philox(pi, [0xa4093822n, 0x299f31d0n]))).toBe('d16cfe09 94fdcceb 5001e420 24126ea1')
})

test('random() with a zero key and counter', () => {
  const words = [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]
  expect(Array.from(native.random(0, 0, 0, 4, 0))).toEqual(words.map((word) => (word >>> 8) / 2 ** 24))
})

test.each([
  [0, 0, 0, 0],
  [1, 2, 3, 5],
  [2 ** 40 + 12345, 7, 2 ** 32 - 1, 2],
  [-1, 2 ** 31, 9, 2 ** 35 + 3],
])('random(seed %p, step %p, site %p) from %p on', (seed, step, site, first) => {
  const expected = Array.from({ length: 11 }, (_, i) => uniform(BigInt.asUintN(64, BigInt(seed)), step, site, first + i))
  expect(Array.from(native.random(seed, step, site, 11, first))).toEqual(expected)
})

test('a draw depends on its index alone, not on what was drawn before', () => {
  const all = native.random(3, 1, 4, 100, 0)
  expect(Array.from(native.random(3, 1, 4, 37, 63))).toEqual(Array.from(all.subarray(63)))
  for (const [seed, step, site] of [
    [4, 1, 4],
    [3, 2, 4],
    [3, 1, 5],
  ])
    expect(Array.from(native.random(seed, step, site, 100, 0))).not.toEqual(Array.from(all))
})

test('uniform in [0, 1)', () => {
  const values = native.random(11, 0, 0, 200_000, 0)
  const mean = values.reduce((a, b) => a + b, 0) / values.length
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length
  expect(Math.min(...values.slice(0, 1000))).toBeGreaterThanOrEqual(0)
  expect(Math.max(...values.slice(0, 1000))).toBeLessThan(1)
  expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / values.length))
  expect(Math.abs(variance - 1 / 12)).toBeLessThan(1e-3)
})
