// Puts the core that build/Release holds into prebuilds/<platform>-<arch>/, stripped, under the name that lib/addon/load-addon.ts looks
// for, and refuses one that would not run elsewhere. `npm run prebuildify` builds everything first; with `-- --all` it compiles the
// shipped cores of other platforms too (cross-compile.mjs). Those that are older than the sources are taken away.
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { crossCompile, TARGETS } from './cross-compile.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)
const { addonCandidates } = require('../dist/addon/load-addon.js')
const { thisHost } = require('../dist/addon/host.js')
const { compareVersions, neededVersions, requiredGlibc } = require('../dist/addon/elf-versions.js')

/** What official builds of Node 20 and later ask for themselves. */
const OLDEST_GLIBC = '2.28'

function stop(message) {
  process.stderr.write(`prebuild: ${message}\n`)
  process.exit(1)
}

function put(built, prebuilt) {
  mkdirSync(dirname(prebuilt), { recursive: true })
  rmSync(prebuilt, { force: true }) // not written over: a process may run it
  copyFileSync(built, prebuilt)
}

function checkVersions(path, libc) {
  const file = readFileSync(path)
  const needed = [...neededVersions(file).values()].flat()
  const glibc = requiredGlibc(file)
  if (libc === 'musl' && glibc !== undefined) stop(`expected a core for musl, got one that needs ${needed.join(', ')}`)
  const newer = needed.filter((name) => name.startsWith('GLIBC_') && compareVersions(name.replace(/^\D+/, ''), OLDEST_GLIBC) > 0)
  if (newer.length > 0)
    stop(`expected a core for glibc ${OLDEST_GLIBC}, got one that needs ${newer.join(', ')} (objdump -T says which functions)`)
  process.stdout.write(
    `${path.slice(root.length + 1)}: ${(statSync(path).size / 1e6).toFixed(1)} MB${glibc === undefined ? '' : `, from glibc ${glibc} on`}\n`,
  )
}

function takeAwayOld() {
  const files = (folder) => readdirSync(join(root, folder), { recursive: true }).map((path) => join(root, folder, path))
  const newest = Math.max(...[...files('native'), join(root, 'CMakeLists.txt')].map((path) => statSync(path).mtimeMs))
  for (const path of files('prebuilds').filter((path) => path.endsWith('.node') && statSync(path).mtimeMs < newest)) rmSync(path)
}

const host = thisHost()
const [built, prebuilt] = addonCandidates(root, host)
if (existsSync(join(root, 'prebuilds'))) takeAwayOld()
put(built, prebuilt)
const strip = spawnSync('strip', [host.platform === 'darwin' ? '-Sx' : '--strip-all', prebuilt], { stdio: 'inherit' })
if (strip.status !== 0) stop('expected binutils’ strip to work')
checkVersions(prebuilt, host.libc)
const loads = spawnSync(process.execPath, ['-e', 'require(process.argv[1]).backendInfo()', prebuilt], { stdio: 'inherit' })
if (loads.status !== 0) stop('expected a core that loads')

const others = Object.keys(TARGETS).filter((name) => TARGETS[name].shipped && process.argv.includes('--all'))
for (const name of others) {
  const [folder, libc] = name.split('.')
  const path = join(root, 'prebuilds', folder, `cambium${libc ? `.${libc}` : ''}.node`)
  if (path === prebuilt) continue
  put(crossCompile(name), path)
  checkVersions(path, libc)
}
