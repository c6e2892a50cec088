import { cases } from '../ops/cases.js'
import type { DeviceReport } from './cases-child.js'
import { child } from './emulated.js'

// Every case of the op table through the CUDA kernels on the emulated device: against the same float64 references, with the
// same bits when blocks, warps and lanes run in another order, and nothing left behind.
const expected = cases.length + cases.filter((c) => c.bf16).length
const PARTS = 4
let checked = 0

test.each(Array.from({ length: PARTS }, (_, part) => part))(
  `part %i of ${PARTS}`,
  async (part) => {
    const env = { CAMBIUM_CASES_PART: String(part), CAMBIUM_CASES_PARTS: String(PARTS) }
    const report = JSON.parse(await child('cases-child.ts', env)) as DeviceReport
    expect(report).toEqual({ device: 'cuda', checked: report.checked, failures: [] })
    checked += report.checked
  },
  600_000,
)

test('no case is left out', () => {
  expect(checked).toBe(expected)
})
