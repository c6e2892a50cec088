import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { EMULATED_LIBRARY } from './emulated.js'

// Whole training steps of a method through the CUDA kernels: the tests of R-Adapter and their fixtures, with every tensor on the
// emulated device. `npm run test:gpu` runs all of them on a real one.
test('R-Adapter’s fixtures', async () => {
  const args = [
    require.resolve('jest/bin/jest'),
    ...['test/methods/r-adapter', '-t', 'R-Adapter on even clip-quick-gelu'],
    ...['-i', '--testTimeout=600000', '--setupFilesAfterEnv=./test/cuda/use-device.ts'], // takes what follows, too
  ]
  const options = { cwd: join(__dirname, '../..'), env: { ...process.env, CAMBIUM_CUDA_LIBRARY: EMULATED_LIBRARY } }
  const { stderr } = await promisify(execFile)(process.execPath, args, options)
  expect(stderr).toMatch(/Tests: +9 skipped, 4 passed/)
}, 900_000)
