import type { DeviceReport } from './cases-child.js'
import { child } from './emulated.js'

// Our calls of cuBLASLt against a library of our own with the documented meaning: operations, leading dimensions, epilogues,
// alignments. Every product that it can do goes there; the rest stays with our kernels.
test('products by cuBLASLt', async () => {
  const env = { CAMBIUM_CUBLAS: 'emulated', CAMBIUM_CASES: 'linear|low-rank|contrastive|cross', CAMBIUM_ORDERS: 'forward' }
  const report = JSON.parse(await child('cases-child.ts', env)) as DeviceReport
  expect(report.failures).toEqual([])
  expect(report.checked).toBeGreaterThan(100)
}, 300_000)
