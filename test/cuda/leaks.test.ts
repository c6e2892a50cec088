import { child } from './emulated.js'
import type { LeakReport } from './leak-child.js'

test('steps, workers that end and probes give the device all of its memory back', async () => {
  const { steps, workers, probes } = JSON.parse(await child('leak-child.ts')) as LeakReport
  expect([probes.length, steps.length, workers.length]).toEqual([10, 12, 4])
  for (const same of [probes, steps, workers]) expect(new Set(same).size).toBe(1)
  expect(workers[0]).toBe(probes[0])
  expect(steps[0]).toBeLessThan(probes[0])
}, 600_000)
