/**
 * Finds and loads the native core: the file that CAMBIUM_ADDON names; else the one built here; else the prebuilt one for this
 * platform and C library. When none loads, the error lists each file that was tried with its reason, and the command that mends it.
 */
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { CambiumError, messageOf } from '../errors.js'
import { compareVersions, isWhole, requiredGlibc } from './elf-versions.js'
import { type Host, thisHost } from './host.js'

export interface Attempt {
  readonly path: string
  readonly reason: string
}

export interface LoadedAddon {
  readonly addon: unknown
  readonly path: string
}

/** The package's folder; beside it when this file is a source, above dist/ when it is built. */
export const PACKAGE_ROOT = join(__dirname, '../..')

/** Files to try, in this order. */
export function addonCandidates(root: string, host: Host, override?: string): string[] {
  if (override) return [override]
  const flavour = host.libc === undefined ? '' : `.${host.libc}`
  return [join(root, 'build/Release/cambium.node'), join(root, 'prebuilds', `${host.platform}-${host.arch}`, `cambium${flavour}.node`)]
}

/** @throws E_ADDON when no file loads; E_CPU when CAMBIUM_CPU names a level that this machine lacks */
export function loadAddon(root: string = PACKAGE_ROOT, host?: Host): LoadedAddon {
  const override = process.env.CAMBIUM_ADDON
  const here = host ?? thisHost()
  const attempts: Attempt[] = []
  for (const path of addonCandidates(root, here, override)) {
    try {
      if (!existsSync(path)) attempts.push({ path, reason: 'no such file' })
      else if (isCutShort(path)) attempts.push({ path, reason: 'it is shorter than it says: install the package again' })
      else return { addon: require(path), path }
    } catch (error) {
      if ((error as { code?: unknown }).code === 'E_CPU') throw new CambiumError('E_CPU', messageOf(error), { cause: error })
      attempts.push({ path, reason: reasonOf(path, messageOf(error), here) })
    }
  }
  throw addonError(attempts, here, mendFor(root, here, override))
}

function isCutShort(path: string): boolean {
  const file = openSync(path, 'r')
  try {
    const start = new Uint8Array(64)
    return !isWhole(start.subarray(0, readSync(file, start)), fstatSync(file).size)
  } finally {
    closeSync(file)
  }
}

function reasonOf(path: string, message: string, host: Host): string {
  const required = host.platform === 'linux' ? glibcOf(path) : undefined
  if (required === undefined) return message
  if (host.libc === 'musl') return `it needs glibc, this system has musl (${message})`
  if (host.glibc !== undefined && compareVersions(required, host.glibc) > 0)
    return `it needs glibc ${required}, this system has ${host.glibc} (${message})`
  return message
}

function glibcOf(path: string): string | undefined {
  try {
    return requiredGlibc(readFileSync(path))
  } catch {
    return undefined // no file that can be read, or cut short
  }
}

function mendFor(root: string, host: Host, override: string | undefined): string {
  if (override) return 'unset CAMBIUM_ADDON, or let it name a core for this machine'
  if (existsSync(join(root, 'lib/native.ts'))) return 'npm run build'
  if (!existsSync(join(root, 'CMakeLists.txt')))
    return 'leave cambium external to the bundler (esbuild and webpack: externals; Next.js: serverExternalPackages), and install it beside the bundle'
  const built = `${host.platform}-${host.arch}${host.libc === undefined ? '' : ` with ${host.libc}`}`
  return `npx cambium build   (compiles the core for ${built}; needs a C++17 compiler and cmake)`
}

export function addonError(attempts: readonly Attempt[], host: Host, mend: string): CambiumError {
  const libc = host.libc === undefined ? '' : `, ${host.libc}${host.glibc === undefined ? '' : ` ${host.glibc}`}`
  const lines = [
    `addon: expected a native core that loads on ${host.platform}-${host.arch}${libc}, with Node ${process.version}, got none`,
    ...attempts.map(({ path, reason }) => `  tried ${path}: ${reason}`),
    `  processor: ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    `  to mend it: ${mend}`,
  ]
  return new CambiumError('E_ADDON', lines.join('\n'), { details: { attempts, host, mend } })
}
