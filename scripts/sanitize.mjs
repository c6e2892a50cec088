// Builds the stand-alone checks of native/test under the sanitizers and runs them: AddressSanitizer with
// UndefinedBehaviorSanitizer over products, op kernels and streams, ThreadSanitizer over streams, memory and the pool.
// `npm run test:sanitize` runs both, `npm run test:sanitize -- thread` or `-- address` one of them; `-- addon` builds the addon
// under AddressSanitizer too and runs the op cases of jest over it.
import { spawnSync } from 'node:child_process'
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

function checks(kind) {
  const { flags, programs } = kinds[kind]
  const folder = join(root, 'build', `sanitize-${kind}`)
  // Frames and line numbers for reports; less optimised code keeps the wrong access where it was written.
  const all = `-O1 -g1 -fno-omit-frame-pointer ${flags}`
  const settings = ['-DCMAKE_BUILD_TYPE=Sanitize', `-DCMAKE_CXX_FLAGS_SANITIZE=${all}`, '-DCAMBIUM_NATIVE_TESTS=ON']
  run('cmake', ['-S', root, '-B', folder, ...settings])
  run('cmake', ['--build', folder, '-j', '2', '--target', ...programs])
  const env = { ASAN_OPTIONS: 'detect_leaks=1', UBSAN_OPTIONS: 'print_stacktrace=1', TSAN_OPTIONS: 'halt_on_error=1' }
  for (const program of programs) run(join(folder, program), [], env)
}

const asked = process.argv.slice(2)
for (const kind of asked.length > 0 ? asked : Object.keys(kinds)) {
  if (!(kind in kinds)) {
    process.stderr.write(`sanitize: expected ${Object.keys(kinds).join(', ')}, got ${kind}\n`)
    process.exit(2)
  }
  checks(kind)
}
