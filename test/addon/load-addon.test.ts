import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { compareVersions, neededVersions, requiredGlibc } from '../../lib/addon/elf-versions.js'
import { type Host, libcOf, thisHost } from '../../lib/addon/host.js'
import { addonCandidates, loadAddon } from '../../lib/addon/load-addon.js'
import type { CambiumError } from '../../lib/errors.js'
import { addonPath, native } from '../../lib/native.js'
import { temporaryFolder } from '../temporary-folder.js'

const folder = temporaryFolder()
const glibc: Host = { platform: 'linux', arch: 'x64', libc: 'glibc', glibc: '2.28' }
const built = join(folder, 'build/Release/cambium.node')

function failure(root: string, host: Host): CambiumError {
  try {
    loadAddon(root, host)
  } catch (error) {
    return error as CambiumError
  }
  throw new Error('expected an error')
}

function put(path: string, bytes: Uint8Array | string): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
  return path
}

describe('what is tried', () => {
  test('the build here, then the prebuilt one for the platform and its C library; an override alone', () => {
    const musl = { ...glibc, libc: 'musl' } as const
    expect(addonCandidates('/p', glibc)).toEqual([join('/p/build/Release/cambium.node'), join('/p/prebuilds/linux-x64/cambium.glibc.node')])
    expect(addonCandidates('/p', musl)[1]).toBe(join('/p/prebuilds/linux-x64/cambium.musl.node'))
    expect(addonCandidates('/p', { platform: 'darwin', arch: 'arm64' })[1]).toBe(join('/p/prebuilds/darwin-arm64/cambium.node'))
    expect(addonCandidates('/p', glibc, '/mine.node')).toEqual(['/mine.node'])
  })

  test('the C library is that of the loader this process runs under', () => {
    const unasked = () => {
      throw new Error('asked although the maps say it')
    }
    expect(libcOf('7f00 r-xp /lib/ld-musl-x86_64.so.1\n7f01 r-xp /lib/libgcompat/ld-linux-x86-64.so.2', unasked)).toBe('musl')
    expect(libcOf('7f00 r-xp /usr/lib/ld-linux-aarch64.so.1', unasked)).toBe('glibc')
    expect(libcOf('7f00 r-xp /lib64/ld-2.28.so', unasked)).toBe('glibc')
    expect(libcOf(undefined, () => '2.36')).toBe('glibc')
    expect(libcOf(undefined, () => undefined)).toBe('musl')
    if (process.platform === 'linux') expect(thisHost().glibc).toMatch(/^2\.\d+$/)
  })

  test('the core in use is the one that was found', () => {
    expect(neededVersions(readFileSync(addonPath)).size).toBeGreaterThan(0)
    const { level, levels } = native.backendInfo()
    expect(levels[0]).toBe('portable')
    expect(levels).toContain(level)
  })
})

describe('when none loads, the error lists each file, its reason and the command that mends it', () => {
  test('a platform without a prebuilt core', () => {
    put(join(folder, 'CMakeLists.txt'), '')
    const { code, message, details } = failure(folder, { platform: 'linux', arch: 'x64', libc: 'musl' })
    expect(code).toBe('E_ADDON')
    expect(message).toMatch(/linux-x64, musl, with Node v\d+.*got none/)
    expect(message).toContain(`tried ${built}: no such file`)
    expect(message).toContain(`tried ${join(folder, 'prebuilds/linux-x64/cambium.musl.node')}: no such file`)
    expect(message).toMatch(/to mend it: npx cambium build .*linux-x64 with musl.*cmake/)
    expect(details.attempts).toHaveLength(2)
  })

  test('a file that was cut short, which would end the process when loaded, and one that is no core', () => {
    const path = put(join(folder, 'torn/build/Release/cambium.node'), readFileSync(addonPath).subarray(0, 4000))
    expect(failure(join(folder, 'torn'), glibc).message).toMatch(new RegExp(`tried ${path}: it is shorter than it says`))
    put(path, 'text'.repeat(20))
    expect(failure(join(folder, 'torn'), glibc).message).toMatch(/invalid ELF header/)
  })

  test('a core that needs a newer glibc says which; one for glibc on musl too', () => {
    const root = join(folder, 'newer')
    // The names of versions lie in the string table: the same file, asking for a glibc of the future.
    const bytes = Buffer.from(readFileSync(addonPath))
    const newest = `GLIBC_${requiredGlibc(bytes)}\0`
    for (let at = bytes.indexOf(newest); at >= 0; at = bytes.indexOf(newest, at + 1)) bytes.write('GLIBC_9.', at)
    put(join(root, 'build/Release/cambium.node'), bytes)
    const required = requiredGlibc(bytes)
    expect(failure(root, glibc).message).toContain(`it needs glibc ${required}, this system has 2.28`)
    expect(failure(root, { ...glibc, libc: 'musl' }).message).toContain('it needs glibc, this system has musl')
  })

  test('in a bundle, beside which there is no package, it is about bundlers', () => {
    expect(failure(join(folder, 'bundle'), glibc).details.mend).toMatch(/^leave cambium external to the bundler/)
  })

  test('in a source checkout the command is its build; with CAMBIUM_ADDON it is the variable', () => {
    put(join(folder, 'checkout/lib/native.ts'), '')
    expect(failure(join(folder, 'checkout'), glibc).details.mend).toBe('npm run build')
    process.env.CAMBIUM_ADDON = join(folder, 'nothing.node')
    try {
      const { message, details } = failure(folder, glibc)
      expect(message).toContain(`tried ${join(folder, 'nothing.node')}: no such file`)
      expect(details.mend).toMatch(/unset CAMBIUM_ADDON/)
    } finally {
      delete process.env.CAMBIUM_ADDON
    }
  })

  test('the prebuilt core is taken when nothing was built', () => {
    const root = join(folder, 'prebuilt')
    const path = join(root, 'prebuilds/linux-x64/cambium.glibc.node')
    mkdirSync(dirname(path), { recursive: true })
    copyFileSync(addonPath, path)
    expect(loadAddon(root, glibc).path).toBe(path)
  })
})

describe('versions that a shared object asks for', () => {
  test('as objdump lists them', () => {
    const lines = execFileSync('objdump', ['-p', addonPath], { encoding: 'utf8' })
    const listed = [...lines.slice(lines.indexOf('Version References')).matchAll(/^\s+0x\w+ 0x\w+ \d+ (\S+)$/gm)].map(([, name]) => name)
    expect([...neededVersions(readFileSync(addonPath)).values()].flat().sort()).toEqual(listed.sort())
  })

  test('the built core runs from glibc 2.28 on and brings its own libstdc++', () => {
    const bytes = readFileSync(addonPath)
    expect(compareVersions(requiredGlibc(bytes)!, '2.28')).toBeLessThanOrEqual(0)
    expect([...neededVersions(bytes).keys()].filter((name) => /stdc\+\+/.test(name))).toEqual([])
  })

  test('versions are ordered by number', () => {
    expect(['2.4', '2.28', '2.2.5', '2.36', '2.2'].sort(compareVersions)).toEqual(['2.2', '2.2.5', '2.4', '2.28', '2.36'])
    expect(requiredGlibc(Buffer.alloc(100))).toBeUndefined()
  })
})
