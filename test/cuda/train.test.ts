import { child } from './emulated.js'

interface Part {
  losses: number[]
  norms: number[]
  reasons: string[]
  /** bytes that the device had given after each step */
  reserved: number[]
  graphs: number
  hash: string
  error: string
  /** the error that stopped the first part of a run that was gone on with */
  failed?: string
}

interface Outcome {
  captured: Part
  plain: Part
  /** tensors and bytes that are left */
  left: [number, number]
}

// One process trains all of it, each with captured steps and with plain ones: the same bits in losses, norms, parameters and averages.
let told: Record<string, Outcome>
beforeAll(async () => {
  told = JSON.parse(await child('train-child.ts'))
}, 600_000)

const bitsOf = ({ losses, norms, hash }: Part) => ({ losses, norms, hash })

test.each(['r-adapter', 'lora accumulated', 'full', 'diki', 'lwf', 'zscl', 'prefix'])(
  '%s: replayed steps give the bits of plain ones',
  (name) => {
    const { captured, plain } = told[name]
    expect([captured.error, plain.error, ...captured.reasons, ...plain.reasons]).toEqual(['', ''])
    expect(plain.losses.every(Number.isFinite)).toBe(true)
    expect(new Set(plain.losses).size).toBe(plain.losses.length)
    expect(bitsOf(captured)).toEqual(bitsOf(plain))
    expect(plain.graphs).toBe(0)
  },
)

test('texts of any number and length take few graphs, those of classes one', () => {
  for (const [name, { captured }] of Object.entries(told).filter(([, { captured }]) => captured.reasons.length === 0 && !captured.failed)) {
    const most = name === 'r-adapter' ? 4 : 2 // that one was stopped and gone on with by a trainer of its own
    expect({ name, graphs: captured.graphs, few: captured.graphs >= 1 && captured.graphs <= most }).toMatchObject({ few: true })
  }
  expect(told.full.captured.graphs).toBe(2) // its batches are padded to two shapes
  for (const name of ['diki', 'lwf', 'zscl', 'prefix']) expect(told[name].captured.graphs).toBe(1)
})

test('a replayed step takes no memory from the device', () => {
  const { reserved } = told.diki.captured
  expect(reserved.length).toBe(4)
  expect(new Set(reserved.slice(1)).size).toBe(1) // the second was recorded
})

test('a term that writes host values in the step is told of, and trains by plain steps', () => {
  const { captured, plain } = told['a term with host values']
  expect(captured.reasons).toEqual([expect.stringMatching(/^capture: expected a step whose host values are inputs/)])
  expect(plain.reasons).toEqual([])
  expect(captured.graphs).toBe(1) // which was thrown away
  expect(captured.norms).toEqual(plain.norms)
  expect(captured.hash).toBe(plain.hash)
})

test('a kernel that fails in a replayed step is told, and the run goes on from its checkpoint to the same bits', () => {
  const { captured, plain } = told['a kernel that fails']
  expect(captured.failed).toMatch(/^E_INDEX: gather_rows: index: expected values in \[0, 4\), got 99/)
  expect(bitsOf(captured)).toEqual(bitsOf(plain))
})

test('nothing is left when trainers, methods and models are gone', () => {
  const left = Object.entries(told).filter(([, { left }]) => left.some((count) => count !== 0))
  expect(left.map(([name, { left }]) => [name, left])).toEqual([])
})
