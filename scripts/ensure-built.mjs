// Makes a fresh clone ready: installs dependencies when they are missing or older than the lock file, builds when the
// build is missing or older than the sources. Quiet when there is nothing to do.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const time = (path) => (existsSync(join(root, path)) ? statSync(join(root, path)).mtimeMs : 0)
const newest = (folder) =>
  Math.max(
    0,
    ...readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs),
  )
const run = (command, args) => {
  const { status } = spawnSync(command, args, { stdio: 'inherit', cwd: root, shell: process.platform === 'win32' })
  if (status !== 0) process.exit(status ?? 1)
}

if (time('node_modules/.package-lock.json') < time('package-lock.json')) run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'])
const addon = time('build/Release/cambium.node')
if (addon < Math.max(newest('native'), time('CMakeLists.txt'))) run(process.execPath, ['scripts/build-native.mjs'])
// The tests want the CUDA backend too, as C++ for an emulated device.
if (process.argv.includes('--emulated')) {
  const sources = Math.max(newest('native/cuda'), newest('native/ops'))
  if (time('build/cuda-emulated/libcambium_cuda_emulated.so') < sources) run(process.execPath, ['scripts/build-cuda.mjs', '--emulated'])
}
if (time('dist/index.mjs') < newest('lib')) run(process.execPath, ['scripts/build.mjs', '--no-native'])
