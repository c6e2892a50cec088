import { child } from './emulated.js'

let captured: Told
let plain: Told
beforeAll(async () => {
  const run = async (env: Record<string, string>): Promise<Told> => JSON.parse(await child('capture-child.ts', env))
  ;[captured, plain] = [await run({}), await run({ CAMBIUM_GRAPH: '0' })]
}, 600_000)

interface Told {
  losses: number[]
  hash: string
  host: { refused: string[]; called: string[]; reasons: string[] }
  shapes: { sums: number[]; graphs: number; held: number; left: number }
  thrown: { said: string[]; graphs: number }
  memory: { said: string[]; graphs: number; given: number }
  held: number
}

// Training steps replayed as graphs against the same steps queued kernel by kernel: the same bits, in spite of adapters that are
// dropped, rates that change and batches of two sizes.
test('captured steps give the bits of plain ones', () => {
  expect(captured.losses.every(Number.isFinite)).toBe(true)
  expect(new Set(captured.losses).size).toBe(captured.losses.length)
  expect(captured.losses).toEqual(plain.losses)
  expect(captured.hash).toBe(plain.hash)
  expect(captured.held).toBe(plain.held)
})

test('a step with other host values the second time is refused, or called as it is from there on', () => {
  const why = /capture: expected a step whose host values are inputs/
  expect(captured.host.refused).toEqual(['2,2', expect.stringMatching(why)])
  expect(captured.host.called).toEqual(['2,2', '4,2', '5,2']) // once more than asked for: what was recorded did not run
  expect(captured.host.reasons).toEqual([expect.stringMatching(why)])
  expect(plain.host).toEqual({ refused: ['2,2', '3,2'], called: ['2,2', '3,2', '4,2'], reasons: [] })
})

test('many shapes: few graphs are kept, and each gives its own results', () => {
  const { sums, graphs, held, left } = captured.shapes
  expect(sums).toEqual(plain.shapes.sums)
  expect(graphs).toBe(11) // ten, and the first once more
  expect(held).toBe(8 + 1) // results, and the input that all of them share
  expect(left).toBe(0)
  expect(plain.shapes).toMatchObject({ graphs: 0, held: 0 })
})

test('a step that throws while it is recorded throws its own error, and is recorded the next time', () => {
  expect(captured.thrown).toEqual({ said: ['3,6', 'RangeError: not now', '3,6', '3,6'], graphs: 1 })
  expect(plain.thrown.said).toEqual(captured.thrown.said)
})

test('memory that is given back while a step is recorded goes when it has been', () => {
  expect(captured.memory).toEqual({ said: ['2,4', '2,4', '2,4'], graphs: 1, given: 40 << 20 })
  expect(plain.memory).toEqual({ ...captured.memory, graphs: 0 })
})
