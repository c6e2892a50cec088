import { execFile } from 'node:child_process'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { child, EMULATED_LIBRARY } from './emulated.js'

const GIB = 2 ** 30
const probe = async (env: Record<string, string>) => JSON.parse(await child('probe-child.ts', env))

test('a device says what it is', async () => {
  expect(await probe({})).toMatchObject({
    available: true,
    name: 'emulated device (9.0)',
    products: expect.stringMatching(/^own/),
    memory: { total: 8 * GIB },
  })
}, 600_000)

test.each<[string, Record<string, string>, RegExp]>([
  [
    'no library',
    { CAMBIUM_CUDA_LIBRARY: '/nowhere/lib.so' },
    /^expected libcambium_cuda\.so, got none \(looked at \/nowhere\/lib\.so; npx cambium build --cuda/,
  ],
  ['another library', { CAMBIUM_CUDA_LIBRARY: join(__dirname, '../../package.json') }, /expected a library that loads/],
  [
    'a library of another version',
    { CAMBIUM_CUDA_LIBRARY: join(dirname(EMULATED_LIBRARY), 'libcambium_cuda_of_another_version.so') },
    /expected a library of the same version \(ABI \d+\), got one of ABI 1, of another size; npx cambium build --cuda makes it again$/,
  ],
  ['no driver', { CAMBIUM_EMULATION_DRIVER: '0' }, /^no NVIDIA driver is installed$/],
  [
    'an old driver',
    { CAMBIUM_EMULATION_DRIVER: '12040' },
    /^the NVIDIA driver is too old: it knows CUDA 12\.4, expected 13\.0 \(driver 580 or newer\)$/,
  ],
  ['no GPU', { CAMBIUM_EMULATION_DEVICES: '0' }, /^no NVIDIA GPU is visible/],
  ['an old GPU', { CAMBIUM_EMULATION_CAPABILITY: '75' }, /^expected a GPU of compute capability 8\.0 or newer, got 7\.5$/],
  [
    'kernels of another GPU',
    { CAMBIUM_EMULATION_KERNELS: '80' },
    /^expected kernels for compute capability 9\.0, got none in this library \(cudaErrorNoKernelImageForDevice\); npx cambium build --cuda/,
  ],
  ['no memory', { CAMBIUM_EMULATION_MEMORY: '50' }, /^no memory on the GPU: \d+ of 50 bytes are free$/],
])(
  '%s is told',
  async (_, env, reason) => {
    const found = await probe(env)
    expect(found.available).toBe(false)
    expect(found.reason).toMatch(reason)
  },
  600_000,
)

test('what fails on a device is an error, and what can go on goes on', async () => {
  const told = JSON.parse(await child('failures-child.ts', { CAMBIUM_EMULATION_MEMORY: String(GIB / 2) }))
  expect(told.other).toMatch(/^E_DEVICE: device: expected to be chosen before there are tensors/)
  expect(told.sum).toBe('20')
  expect(told.memory).toMatch(
    /^E_OUT_OF_MEMORY: tensor: expected 1073741824 free bytes, .*emulated device \(9\.0\) has \d+ of 536870912 free/,
  )
  expect(told.afterMemory).toBe('10')
  expect(told.leaked).toBe(0)
  expect(told.index).toBe('E_INDEX: gather_rows: index: expected values in [0, 2), got 9 at 1')
  expect(told.afterIndex).toBe('3,4,1,2')
  expect(told.large).toBe(true)
  expect(told.lost).toMatch(/^E_DEVICE: .*cudaErrorLaunchFailure/)
  expect(told.afterLost).toMatch(/^E_DEVICE: /)
}, 600_000)

test('a command computes on the device, or says why not', async () => {
  const main = join(__dirname, '../../lib/cli/main.ts')
  const run = promisify(execFile)
  const options = { env: { ...process.env, CAMBIUM_CUDA_LIBRARY: '/nowhere/lib.so' } }
  const hook = join(__dirname, '../typescript.cjs')
  const failed = await run(process.execPath, ['--require', hook, main, 'eval', '--device', 'cuda', '--model', 'none'], options).catch(
    (error) => error,
  )
  expect(failed.code).toBe(1)
  expect(failed.stderr).toMatch(/^error: cuda: expected libcambium_cuda\.so, got none .*\(E_DEVICE\)\n$/)
  const wrong = await run(process.execPath, ['--require', hook, main, 'eval', '--device', 'tpu', '--model', 'none'], options).catch(
    (error) => error,
  )
  expect(wrong.code).toBe(2)
}, 600_000)
