// Builds the stand-alone checks of native/test under the sanitizers and runs them: AddressSanitizer with
// UndefinedBehaviorSanitizer over products, op kernels and streams, ThreadSanitizer over streams, memory and the pool.
// `npm run test:sanitize` runs both, `npm run test:sanitize -- thread` or `-- address` one of them; `-- addon` builds the addon
// under AddressSanitizer (`-- cuda` the CUDA kernels for the emulated device, `-- races` with a look at each access) and runs over it the tests of jest that go through every op, workers and files (some minutes).
import { execFileSync, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { machine } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const ADDRESS = { flags: '-fsanitize=address,undefined -fno-sanitize-recover=all', programs: ['stream_test', 'gemm_test', 'ops_test'] }
const THREAD = { flags: '-fsanitize=thread', programs: ['stream_test'] }
const kinds = { address: ADDRESS, thread: THREAD }

function run(command, args, env = {}) {
  const { status } = spawnSync(command, args, { stdio: 'inherit', cwd: root, env: { ...process.env, ...env } })
  if (status !== 0) process.exit(status ?? 1)
}

/**
 * Before a program that is checked: no random addresses, where that is allowed. Sanitizers of some years ago meet, by chance, a layout
 * that leaves their shadow no room (Linux with vm.mmap_rnd_bits = 32: "unexpected memory mapping").
 */
const fixed = ['setarch', machine(), '-R']
const fixes = spawnSync(fixed[0], [...fixed.slice(1), 'true']).status === 0 ? fixed : []

function checks(kind) {
  const { flags, programs } = kinds[kind]
  const folder = join(root, 'build', `sanitize-${kind}`)
  // Frames and line numbers for reports; less optimised code keeps the wrong access where it was written.
  const all = `-O1 -g1 -fno-omit-frame-pointer ${flags}`
  const settings = ['-DCMAKE_BUILD_TYPE=Sanitize', `-DCMAKE_CXX_FLAGS_SANITIZE=${all}`, '-DCAMBIUM_NATIVE_TESTS=ON']
  run('cmake', ['-S', root, '-B', folder, ...settings])
  run('cmake', ['--build', folder, '-j', '2', '--target', ...programs])
  const env = { ASAN_OPTIONS: 'detect_leaks=1', UBSAN_OPTIONS: 'print_stacktrace=1', TSAN_OPTIONS: 'halt_on_error=1' }
  for (const program of programs) {
    const [command, ...args] = [...fixes, join(folder, program)]
    run(command, args, env)
  }
}

/** The addon itself: the sanitizer's libraries are loaded before node, which knows nothing of them. */
function addon() {
  const require = createRequire(import.meta.url)
  const folder = join('build', 'sanitize-addon')
  const flags = `-g1 -fno-omit-frame-pointer ${ADDRESS.flags}`
  run(process.execPath, [
    require.resolve('cmake-js/bin/cmake-js'),
    'compile',
    '-d',
    root,
    '-O',
    folder,
    '-p',
    '2',
    `--CDCMAKE_CXX_FLAGS=${flags}`,
  ])
  const library = (name) => execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim()
  const tests = [
    'test/ops/ops',
    'test/core/(handles|memory|recompute|workers|kernel-error)',
    'test/formats/safetensors-file',
    'test/data/resize',
  ]
  run(process.execPath, [require.resolve('jest/bin/jest'), '-i', '--testTimeout=500000', ...tests], {
    LD_PRELOAD: ['libasan.so', 'libubsan.so'].map(library).join(':'),
    // node keeps what it has until it ends, and its own strings cross the border.
    ASAN_OPTIONS: 'detect_leaks=0:verify_asan_link_order=0:alloc_dealloc_mismatch=0',
    CAMBIUM_ADDON: join(root, folder, 'Release', 'cambium.node'),
  })
}

/** The cases of the op table over CUDA kernels that were built so for the emulated device. */
function cuda(folder, settings, env = {}) {
  run('cmake', ['-S', '.', '-B', folder, '-DCAMBIUM_CUDA_EMULATED=ON', ...settings])
  run('cmake', ['--build', folder, '--target', 'emulated', '-j', '2'])
  const CAMBIUM_CUDA_LIBRARY = join(root, folder, 'libcambium_cuda_emulated.so')
  const told = execFileSync(process.execPath, ['--require', './test/typescript.cjs', 'test/cuda/cases-child.ts'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, CAMBIUM_CUDA_LIBRARY, CAMBIUM_ORDERS: 'forward', ...env },
  })
  const { checked, failures } = JSON.parse(told.trim().split('\n').at(-1))
  process.stdout.write(`${[...failures, `${checked} cases, ${failures.length} failed`].join('\n')}\n`)
  if (failures.length > 0) process.exit(1)
}

/** What goes beyond memory of the device or shared memory of a block. */
function cudaAddresses() {
  const flags = '-O1 -g1 -fno-omit-frame-pointer -fsanitize=address'
  cuda(join('build', 'sanitize-cuda'), ['-DCMAKE_BUILD_TYPE=Sanitize', `-DCMAKE_CXX_FLAGS_SANITIZE=${flags}`], {
    LD_PRELOAD: execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim(),
    ASAN_OPTIONS: 'detect_leaks=0:verify_asan_link_order=0:alloc_dealloc_mismatch=0',
  })
}

/** What two threads of a launch touch with no barrier between (native/cuda/emulation/races.h). */
function cudaRaces() {
  cuda(join('build', 'sanitize-races'), ['-DCMAKE_BUILD_TYPE=Sanitize', '-DCMAKE_CXX_FLAGS_SANITIZE=-O2 -g1', '-DCAMBIUM_CUDA_RACES=ON'])
}

const asked = process.argv.slice(2)
for (const kind of asked.length > 0 ? asked : Object.keys(kinds)) {
  if (kind in kinds) checks(kind)
  else if (kind === 'addon') addon()
  else if (kind === 'cuda') cudaAddresses()
  else if (kind === 'races') cudaRaces()
  else {
    process.stderr.write(`sanitize: expected address, thread, addon, cuda or races, got ${kind}\n`)
    process.exit(2)
  }
}
