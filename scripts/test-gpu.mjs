// Tests on a GPU, from a built tree and without a network: `npm run build && npm run build:cuda && npm run test:gpu`.
// Every case of the op table with the same bits twice, captured steps against plain ones, then the tests of ops, core, models
// and methods (with their fixtures and float64 references) with all tensors on the GPU. Without a GPU it says so, and exits with 2.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)

function stop(message) {
  process.stdout.write(`test:gpu: ${message}\n`)
  process.exit(2)
}

if (!existsSync(join(root, 'dist/device.js'))) stop('expected a built tree (npm run build), got none. Nothing was tested.')
const { cudaLibraries, probeCuda } = require('../dist/device.js')
const found = probeCuda()
if (!found.available) stop(`no GPU can be used here: ${found.reason}. Nothing was tested.`)
process.stdout.write(`${found.name}; products: ${found.products}\n`)

const CAMBIUM_CUDA_LIBRARY = cudaLibraries().find(existsSync)
let failed = false

function run(title, args, env = {}) {
  process.stdout.write(`\n== ${title}\n`)
  const { status } = spawnSync(process.execPath, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, CAMBIUM_CUDA_LIBRARY, ...env },
  })
  if (status !== 0) failed = true
}

function report(title, program, check, env = {}) {
  process.stdout.write(`\n== ${title}\n`)
  const args = ['--require', './test/typescript.cjs', `test/cuda/${program}.ts`]
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26, env: { ...process.env, CAMBIUM_CUDA_LIBRARY, ...env } }
  const { status, stdout, stderr } = spawnSync(process.execPath, args, options)
  const wrong = status === 0 ? check(JSON.parse(stdout.trim().split('\n').at(-1))) : [stderr]
  process.stdout.write(wrong.length === 0 ? 'passed\n' : `${wrong.join('\n')}\nFAILED\n`)
  if (wrong.length > 0) failed = true
}

const cases = ({ checked, failures }) => {
  process.stdout.write(`${checked} cases\n`)
  return failures
}
report('cases of the op table, each twice', 'cases-child', cases, { CAMBIUM_ORDERS: 'first,again' })
report('the same without cuBLASLt', 'cases-child', cases, { CAMBIUM_ORDERS: 'first', CAMBIUM_PRODUCTS: 'own' })
report('memory is given back', 'leak-child', ({ steps, workers, probes }) => {
  // Other programs may use the GPU as well: what is looked for is a loss that grows.
  const lost = (free) => free[0] - free.at(-1)
  return [steps, workers, probes].flatMap((free) => (lost(free) < 64 * 2 ** 20 ? [] : [`${lost(free)} bytes are gone: ${free}`]))
})
const within = (which, bound) => (errors) =>
  errors.filter((one) => !(one[which] < bound)).map(({ name, full, rounded }) => `${name}: error ${full}, of TF32 ${rounded}`)
report('products of f32 keep all bits', 'products-child', within('full', 1e-5))
// How cuBLAS rounds is its own business; ours goes to the nearest.
report('and go by TF32 when that is asked for', 'products-child', within('full', 2e-3), { CAMBIUM_TF32: '1' })
report('the same without cuBLASLt', 'products-child', within('rounded', 1e-5), { CAMBIUM_TF32: '1', CAMBIUM_PRODUCTS: 'own' })
let captured
report('captured steps', 'capture-child', (result) => {
  captured = result
  return []
})
report(
  'plain steps, the same bits',
  'capture-child',
  ({ hash }) => (hash === captured?.hash ? [] : ['other bits than the captured steps']),
  {
    CAMBIUM_GRAPH: '0',
  },
)
report('training runs: captured steps and plain ones, the same bits', 'train-child', (runs) =>
  Object.entries(runs)
    .filter(([, { captured, plain }]) => captured.hash !== plain.hash || captured.error !== '' || captured.graphs === 0)
    .map(([name, { captured, plain }]) => `${name}: ${captured.error || 'other bits'}, ${captured.graphs} graphs; plain: ${plain.error}`),
)
const suites = [
  'test/ops/(ops|indices|adamw|sgd|cast|dropout|contracts|low-rank-norm)',
  'test/core/(gates|handles|memory|recompute|scope|seeds|versions)',
]
run('ops, core, models and methods with every tensor on the GPU', [
  require.resolve('jest/bin/jest'),
  ...suites,
  'test/models',
  'test/methods',
  'test/train/train.test',
  '-i',
  `--testTimeout=${found.name.startsWith('emulated') ? 3_600_000 : 300_000}`,
  '--setupFilesAfterEnv=./test/cuda/use-device.ts', // takes what follows, too
])
process.stdout.write(failed ? '\ntest:gpu: FAILED\n' : '\ntest:gpu: all passed\n')
process.exit(failed ? 1 : 0)
