// Compiles the native core with cmake-js into build/Release. Nothing but Node, a C++ compiler and cmake is needed: in an installed
// package (`npx cambium build`), which has no development dependencies, cmake-js and the headers come by npm into build/tools first.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const tools = join(root, 'build', 'tools')

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
  run('npm', ['install', ...flags, ...wanted], process.platform === 'win32')
  return resolveFrom(tools)
}

function run(command, args, shell = false) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', cwd: root, shell })
  if (error) process.stderr.write(`${command}: ${error.message}\n`)
  if (status !== 0) process.exit(status ?? 1)
}

const { cmakeJs, headers } = resolveFrom(root) ?? resolveFrom(tools) ?? installTools()
const jobs = String(Math.max(2, availableParallelism()))
run(process.execPath, [cmakeJs, 'compile', '-d', root, '-p', jobs, `--CDCAMBIUM_HEADERS=${headers}`, ...process.argv.slice(2)])
