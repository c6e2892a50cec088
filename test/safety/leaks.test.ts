import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Usage } from './leak-child.js'
import { preparePlace } from './place.js'

// The same work over and over, in a process of its own: what lives on the device is flat to the byte, and the process does not
// grow by what a leak of its tensors, buffers or handles would come to. Ten times as long with CAMBIUM_LEAKS=10.
const { place } = preparePlace()
const LONGER = Number(process.env.CAMBIUM_LEAKS ?? 1)

async function measure(what: string, count: number): Promise<{ found: Usage[]; last: Usage; growth: number }> {
  const args = ['--expose-gc', '--require', join(__dirname, '../typescript.cjs'), join(__dirname, 'leak-child.ts')]
  const { stdout } = await promisify(execFile)(process.execPath, [...args, JSON.stringify(place), what, String(count)])
  const { found, last } = JSON.parse(stdout) as { found: Usage[]; last: Usage }
  if (process.env.CAMBIUM_LEAKS) process.stderr.write(`${what}: ${found.map(({ rss }) => (rss / 1e6).toFixed(1)).join(' ')} MB\n`)
  // The first parts fill caches and let the compiler work; the least of a few is what is really held.
  const least = (part: Usage[]) => Math.min(...part.map(({ rss }) => rss))
  return { found, last, growth: least(found.slice(-3)) - least(found.slice(2, 5)) }
}

jest.setTimeout(600_000)

test.each([
  // [what, how often, bytes that one leak of it would be at least]
  ['step', 2000, 20_000], // activations of a step: above 200 kB
  ['load', 200, 2_000_000], // a model has 3.4 MB
  ['image', 200, 200_000], // 1.9 MB decoded
  ['merge', 30, 2_500_000],
])('%s, %d times', async (what, count, leak) => {
  const { found, last, growth } = await measure(what, count * LONGER)
  for (const name of ['live', 'reserved', 'tensors'] as const) expect(new Set(found.slice(1).map((usage) => usage[name])).size).toBe(1)
  expect(last.live).toBe(0)
  expect(last.tensors).toBe(0)
  expect(growth).toBeLessThan(Math.max(0.5 * count * LONGER * leak, 1e6))
})

test('work that fails, and what nobody disposed of, keeps nothing but that', async () => {
  const { found } = await measure('fail', 30)
  const [first, ...rest] = found.map(({ live }) => live)
  const factors = (rest[0] - first) / 3
  expect(factors).toBeGreaterThan(0)
  expect(factors).toBeLessThan(100_000)
  expect(rest.map((live, i) => live - first - 3 * factors * (i + 1))).toEqual(rest.map(() => 0))
})
