// Compiles the native core with cmake-js into build/Release. Nothing but Node, a C++ compiler and cmake is needed.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js')
const extra = process.argv.slice(2)
const { status } = spawnSync(process.execPath, [cmakeJs, 'compile', '-d', root, '-p', '2', ...extra], { stdio: 'inherit', cwd: root })
process.exit(status ?? 1)
