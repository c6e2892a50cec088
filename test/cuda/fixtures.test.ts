import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { EMULATED_LIBRARY } from './emulated.js'

// Whole training steps of each method through the CUDA kernels: its own tests and fixtures, with every tensor on the emulated
// device. `npm run test:gpu` runs all of them on a real one.
const METHODS: [string, string, string, number][] = [
  ['R-Adapter', 'r-adapter', 'R-Adapter on even clip-quick-gelu', 4],
  ['LoRA', 'lora', '^(lora|dora) as PEFT trains it features', 2],
  ['full fine-tuning', 'full-fine-tuning', 'gradients of every weight and a clipped, decayed step: odd', 1],
  ['DIKI', 'residual-attention', 'extra keys and values in odd clip-gelu', 3],
]

test.each(METHODS)(
  '%s’s fixtures',
  async (_, file, names, count) => {
    const args = [
      require.resolve('jest/bin/jest'),
      ...[`test/methods/${file}`, '-t', names],
      ...['-i', '--testTimeout=600000', '--setupFilesAfterEnv=./test/cuda/use-device.ts'], // takes what follows, too
    ]
    const options = { cwd: join(__dirname, '../..'), env: { ...process.env, CAMBIUM_CUDA_LIBRARY: EMULATED_LIBRARY } }
    const { stderr } = await promisify(execFile)(process.execPath, args, options)
    expect(stderr).toMatch(new RegExp(`Tests: +(\\d+ skipped, )?${count} passed`))
  },
  900_000,
)
