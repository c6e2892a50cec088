import { child } from './emulated.js'

test('more samples than a grid has along one side, samples without rows, and NaN', async () => {
  const told = JSON.parse(await child('limits-child.ts'))
  expect(told).toEqual({
    many: true,
    noTokens: 'attention: expected offsets that end at the number of rows, 1, got 1 samples of at most 0',
    pooled: true,
    after: 8,
  })
}, 600_000)
