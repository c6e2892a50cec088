import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { native } from '../../lib/native.js'

// Kernels are compiled once per level. Code of a level that leaked into shared code (an inline function of the standard
// library compiled twice, of which the linker kept the wide one) would crash an older CPU. So: 512-bit registers only in
// functions of the levels that have them, 256-bit ones only above avx2, tiles only in amx. Needs binutils' objdump, which
// comes with the compiler that built the addon.
const addon = process.env.CAMBIUM_ADDON ?? join(__dirname, '../../build/Release/cambium.node')
const allowed: [RegExp, string, RegExp][] = [
  [/%zmm|%k[0-7]/, 'AVX-512', /avx512|3amx/],
  [/%ymm/, 'AVX', /avx2|avx512|3amx/],
  [/%tmm/, 'AMX', /3amx/],
]

/** Functions of the addon that use instructions their level does not have. */
function leaks(listing: string): { leaks: string[]; seen: Set<string> } {
  const found = new Set<string>()
  const seen = new Set<string>()
  let symbol = ''
  for (const line of listing.split('\n')) {
    const header = /^[0-9a-f]+ <(.*)>:$/.exec(line)
    if (header) symbol = header[1]
    else
      for (const [registers, name, levels] of allowed) {
        if (!registers.test(line)) continue
        seen.add(name)
        if (!levels.test(symbol)) found.add(`${name} in ${symbol}`)
      }
  }
  return { leaks: [...found], seen }
}

if (process.arch === 'x64' && process.platform === 'linux') {
  test('no wide instruction outside the functions of its level', () => {
    const { stdout, status, error } = spawnSync('objdump', ['-d', '--no-show-raw-insn', addon], { encoding: 'utf8', maxBuffer: 2 ** 28 })
    expect({ status, error }).toEqual({ status: 0, error: undefined })
    const result = leaks(stdout)
    expect(result.leaks).toEqual([])
    expect([...result.seen].sort()).toEqual(['AMX', 'AVX', 'AVX-512']) // the levels are there, and their names are kept
  })
} else {
  test(`${process.platform}-${process.arch} has no levels to tell apart here`, () => {
    expect(['portable', 'avx2', 'avx512', 'avx512_bf16', 'amx']).toContain(native.backendInfo().level)
  })
}

test('a leak is found', () => {
  const listing =
    '0000 <_ZN7cambium5outerEv>:\n  vaddps %zmm1,%zmm2,%zmm3\n0010 <_ZN7cambium6avx5125innerEv>:\n  vaddps %zmm1,%zmm2,%zmm3\n'
  expect(leaks(listing).leaks).toEqual(['AVX-512 in _ZN7cambium5outerEv'])
})
