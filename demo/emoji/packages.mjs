// Fetches the emoji packages with the npm of this machine (so its registry, proxy and certificates are obeyed), checks
// each tarball against the sha512 pinned in packages.json and reads the JSON files inside. Nothing is installed.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'

export const PACKAGES = JSON.parse(readFileSync(new URL('packages.json', import.meta.url), 'utf8'))

const tarballName = (vendor) => {
  const { package: name, version } = PACKAGES[vendor]
  return `${name.replace('@', '').replace('/', '-')}-${version}.tgz`
}

const integrityOf = (bytes) => `sha512-${createHash('sha512').update(bytes).digest('base64')}`

/** The tarball's bytes when it is in the cache and is the pinned one; a damaged file is removed. */
function fromCache(vendor, cache) {
  const path = join(cache, tarballName(vendor))
  if (!existsSync(path)) return undefined
  const bytes = readFileSync(path)
  if (integrityOf(bytes) === PACKAGES[vendor].integrity) return bytes
  rmSync(path)
  return undefined
}

/** Runs `npm pack` for all that is missing: by npm's own script when npm runs us, else by name. */
async function pack(vendors, cache) {
  const specs = vendors.map((vendor) => `${PACKAGES[vendor].package}@${PACKAGES[vendor].version}`)
  const args = ['pack', ...specs, '--pack-destination', cache, '--loglevel=error']
  const script = process.env.npm_execpath
  const [program, prefix] = script ? [process.execPath, [script]] : ['npm', []]
  const options = { shell: !script && process.platform === 'win32', env: { ...process.env, npm_config_dry_run: '' } }
  try {
    await promisify(execFile)(program, [...prefix, ...args], options)
  } catch (error) {
    throw new Error(`npm pack: expected to fetch ${specs.join(', ')}, got ${error.stderr?.trim() || error.message}`, { cause: error })
  }
}

/** Files of a tar archive by path: plain ustar entries, which is what npm writes. */
export function* tarEntries(tar) {
  for (let at = 0; at + 512 <= tar.length; ) {
    const text = (from, length) => tar.toString('latin1', at + from, at + from + length).replace(/\0.*$/s, '')
    const name = text(0, 100)
    if (name === '') return
    const size = Number.parseInt(text(124, 12).trim(), 8)
    yield [name.replace(/^package\//, ''), tar.subarray(at + 512, at + 512 + size)]
    at += 512 + Math.ceil(size / 512) * 512
  }
}

/** `{ icons, aliases, chars, categories, width, height }` of one package; chars maps code points ("1f34e") to names. */
function readTarball(bytes) {
  const files = new Map(tarEntries(gunzipSync(bytes)))
  const json = (name) => JSON.parse(files.get(name).toString('utf8'))
  const { icons, aliases = {}, width = 16, height = 16 } = json('icons.json')
  return { icons, aliases, width, height, chars: json('chars.json'), categories: json('metadata.json').categories }
}

/** Reads the packages of these vendors, fetching what the cache folder lacks. Throws when npm fails or a hash differs. */
export async function loadPackages(vendors, cache) {
  mkdirSync(cache, { recursive: true })
  const missing = vendors.filter((vendor) => !fromCache(vendor, cache))
  if (missing.length > 0) await pack(missing, cache)
  const result = {}
  for (const vendor of vendors) {
    const bytes = fromCache(vendor, cache)
    if (!bytes) throw new Error(`${PACKAGES[vendor].package}: expected ${PACKAGES[vendor].integrity}, got another file`)
    result[vendor] = readTarball(bytes)
  }
  return result
}
