// Builds and runs the stand-alone checks of native/test: products and op kernels against double references at every CPU
// level of this machine, and the tile level's machine code too, its instructions trapped and done in C++ where there are none.
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const folder = join(root, 'build', 'native-tests')
const run = (command, args) => {
  const { status } = spawnSync(command, args, { stdio: 'inherit', cwd: root })
  if (status !== 0) process.exit(status ?? 1)
}
run('cmake', ['-S', root, '-B', folder, '-DCMAKE_BUILD_TYPE=Release', '-DCAMBIUM_NATIVE_TESTS=ON'])
run('cmake', ['--build', folder, '-j', '2', '--target', 'gemm_test', 'ops_test'])
for (const program of ['gemm_test', 'ops_test']) run(join(folder, program), [])
