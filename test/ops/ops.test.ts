import { synchronize } from '../../lib/tensor.js'
import { cases } from './cases.js'
import { alive, checkCase, prepare } from './check-case.js'

// A file before this one in the same process may still be giving back what it held.
beforeAll(() => synchronize())

// Forward and gradients of every op against float64. Bounds and what is run: case.ts and check-case.ts.
describe.each(['f32', 'bf16'] as const)('%s', (dtype) => {
  test.each(cases.filter((c) => dtype === 'f32' || c.bf16).map((c) => ({ name: c.name, c })))('$name', async ({ c }) => {
    const before = alive()
    expect((await checkCase(await prepare(c, dtype))).failures).toEqual([])
    expect(alive()).toEqual(before)
  })
})

test('names of cases are unique', () => {
  expect(new Set(cases.map((c) => c.name)).size).toBe(cases.length)
})
