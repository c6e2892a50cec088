// Puts the core that build/Release holds into prebuilds/<platform>-<arch>/, stripped, under the name that lib/addon/load-addon.ts looks
// for, and refuses one that would not run elsewhere. `npm run prebuildify` builds everything first.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

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

const host = thisHost()
const [built, prebuilt] = addonCandidates(root, host)
mkdirSync(dirname(prebuilt), { recursive: true })
copyFileSync(built, prebuilt)
const strip = spawnSync('strip', [host.platform === 'darwin' ? '-Sx' : '--strip-all', prebuilt], { stdio: 'inherit' })
if (strip.status !== 0) stop('expected binutils’ strip to work')

const file = readFileSync(prebuilt)
const glibc = requiredGlibc(file)
if (glibc !== undefined && compareVersions(glibc, OLDEST_GLIBC) > 0) {
  const newer = [...neededVersions(file).values()].flat().filter((name) => compareVersions(name.replace(/^\D+/, ''), OLDEST_GLIBC) > 0)
  stop(`expected a core for glibc ${OLDEST_GLIBC}, got one that needs ${newer.join(', ')} (objdump -T says which functions)`)
}
const loads = spawnSync(process.execPath, ['-e', 'require(process.argv[1]).backendInfo()', prebuilt], { stdio: 'inherit' })
if (loads.status !== 0) stop('expected a core that loads')
const libc = glibc === undefined ? '' : `, from glibc ${glibc} on`
process.stdout.write(`${prebuilt.slice(root.length + 1)}: ${(statSync(prebuilt).size / 1e6).toFixed(1)} MB${libc}\n`)
