/** The machine as the addon sees it: which of the package's binaries fits, and what to say when none does. */
import { readFileSync } from 'node:fs'
import process from 'node:process'

export interface Host {
  readonly platform: string
  readonly arch: string
  /** Linux only. */
  readonly libc?: 'glibc' | 'musl'
  /** Of the glibc that runs this process. */
  readonly glibc?: string
}

export function thisHost(): Host {
  const { platform, arch } = process
  if (platform !== 'linux') return { platform, arch }
  return {
    platform,
    arch,
    libc: libcOf(mapsOfProcess(), glibcVersion),
    get glibc() {
      return glibcVersion()
    },
  }
}

/**
 * The C library by the loader that this process runs under, which says it on every distribution; a file such as
 * /etc/alpine-release does not.
 * @param maps /proc/self/maps, where it can be read
 * @param glibc asked only where the maps do not say it
 */
export function libcOf(maps: string | undefined, glibc: () => string | undefined): 'glibc' | 'musl' {
  if (maps !== undefined && /\/(ld-musl-|libc\.musl-)/.test(maps)) return 'musl'
  if (maps !== undefined && /\/(ld-linux|ld-\d|libc\.so\.6|libc-\d)/.test(maps)) return 'glibc'
  return glibc() === undefined ? 'musl' : 'glibc'
}

function mapsOfProcess(): string | undefined {
  try {
    return readFileSync('/proc/self/maps', 'utf8')
  } catch {
    return undefined
  }
}

/** From Node's own report (milliseconds), without its look at network interfaces, which can wait for a name server. */
function glibcVersion(): string | undefined {
  const report = process.report as (typeof process.report & { excludeNetwork?: boolean }) | undefined
  if (report === undefined) return undefined
  const before = report.excludeNetwork
  report.excludeNetwork = true
  try {
    const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
    return header.glibcVersionRuntime
  } finally {
    report.excludeNetwork = before
  }
}
