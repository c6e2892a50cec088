import { child } from './emulated.js'

// Training steps replayed as graphs against the same steps queued kernel by kernel: the same bits, in spite of adapters that are
// dropped, rates that change and batches of two sizes.
test('captured steps give the bits of plain ones', async () => {
  const run = async (env: Record<string, string>) => JSON.parse(await child('capture-child.ts', env))
  const [captured, plain] = [await run({}), await run({ CAMBIUM_GRAPH: '0' })]
  expect(captured.losses.every(Number.isFinite)).toBe(true)
  expect(new Set(captured.losses).size).toBe(captured.losses.length)
  expect(captured.losses).toEqual(plain.losses)
  expect(captured.hash).toBe(plain.hash)
  expect(captured.told).toEqual(['2,2', expect.stringMatching(/^E_CAPTURE: capture: expected a step whose host values are inputs/)])
  expect(plain.told).toEqual(['2,2', '3,2'])
}, 300_000)
