// Compiles the native core with cmake-js into build/Release. Nothing but Node, a C++ compiler and cmake is needed: in an installed
// package (`npx cambium build`), which has no development dependencies, cmake-js and the headers come by npm into build/tools first.
// A build that fails leaves the core of an earlier one where it is.
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const build = join(root, 'build')
const tools = join(build, 'tools')

/** What a folder's modules see, or undefined. */
function resolveFrom(folder) {
  const { resolve } = createRequire(join(folder, 'package.json'))
  try {
    return { cmakeJs: resolve('cmake-js/bin/cmake-js'), headers: dirname(resolve('node-addon-api/package.json')) }
  } catch {
    return undefined
  }
}

function installTools() {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const wanted = ['cmake-js', 'node-addon-api', 'node-api-headers'].map((name) => `${name}@${devDependencies[name]}`)
  mkdirSync(tools, { recursive: true })
  writeFileSync(join(tools, 'package.json'), '{ "private": true }\n')
  const flags = ['--prefix', tools, '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock']
  if (!run('npm', ['install', ...flags, ...wanted], process.platform === 'win32')) process.exit(1)
  return resolveFrom(tools)
}

function run(command, args, shell = false) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', cwd: root, shell })
  if (error) process.stderr.write(`${command}: ${error.message}\n`)
  return status === 0
}

try {
  accessSync(root, constants.W_OK)
} catch {
  process.stderr.write(
    `build: expected a package folder that can be written, got ${root}. Build in one that can, and let CAMBIUM_ADDON name its build/Release/cambium.node\n`,
  )
  process.exit(1)
}
const { cmakeJs, headers } = resolveFrom(root) ?? resolveFrom(tools) ?? installTools()
const jobs = String(Math.max(2, availableParallelism()))
const cmake = (command) =>
  run(process.execPath, [cmakeJs, command, '-d', root, '-p', jobs, `--CDCAMBIUM_HEADERS=${headers}`, ...process.argv.slice(2)])
// What an earlier build knew of compilers and folders may no longer hold: another image, a cache that was put elsewhere.
const cache = join(build, 'CMakeCache.txt')
const again = () => {
  if (!existsSync(cache)) return false
  for (const old of [cache, join(build, 'CMakeFiles')]) rmSync(old, { recursive: true, force: true })
  return cmake('configure')
}
if (!((cmake('configure') || again()) && cmake('build'))) process.exit(1)
