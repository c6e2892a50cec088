import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { native } from '../../lib/native.js'

// Kernels are compiled once per level. Code of a level that leaked into shared code (an inline function of the standard
// library compiled twice, of which the linker kept the wide one) would crash an older CPU. So every function of the addon, whatever
// object it came from, has only instructions of its level, told by its namespace (or by the suffix of a clone, among which the
// loader chooses by CPUID); what has none is for any CPU of the architecture, and so is `portable`. AVX is told by the encoding (every mnemonic with v), since narrow registers are used
// with it too; tiles also by instructions that name no register. Needs binutils' objdump, which comes with the compiler.
const addon = process.env.CAMBIUM_ADDON ?? join(__dirname, '../../build/Release/cambium.node')
const allowed: [RegExp, string, RegExp][] = [
  [/^v(?!er[rw]\b)|^popcnt/, 'AVX', /4avx2|6avx512|11avx512_bf16|3amx|\.avx2$|\.avx512f$/],
  [/%zmm|%k[0-7]|%[xy]mm(1[6-9]|[23]\d)/, 'AVX-512', /6avx512|11avx512_bf16|3amx|\.avx512f$/],
  [/^v(dpbf16|cvtn\w*bf16)/, 'AVX-512 BF16', /11avx512_bf16|3amx/],
  [/^(tile|ldtilecfg|sttilecfg|tdp)|%tmm/, 'AMX', /3amx/],
]
const INSTRUCTION = /^\s*[0-9a-f]+:\s+(?:(?:rep[nz]*|lock|notrack|bnd|data16|[cdefgs]s) )*(.*)/

/** Functions of the addon that use instructions their level does not have. */
function leaks(listing: string): { leaks: string[]; seen: Set<string> } {
  const found = new Set<string>()
  const seen = new Set<string>()
  let symbol = ''
  for (const line of listing.split('\n')) {
    const header = /^[0-9a-f]+ <(.*)>:$/.exec(line)
    if (header) symbol = header[1]
    const instruction = header ? undefined : INSTRUCTION.exec(line)?.[1]
    if (instruction === undefined) continue
    for (const [has, name, levels] of allowed) {
      if (!has.test(instruction)) continue
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
    expect([...result.seen].sort()).toEqual(['AMX', 'AVX', 'AVX-512', 'AVX-512 BF16']) // the levels are there, and their names are kept
  })
} else {
  test(`${process.platform}-${process.arch} has no levels to tell apart here`, () => {
    expect(['portable', 'avx2', 'avx512', 'avx512_bf16', 'amx']).toContain(native.backendInfo().level)
  })
}

test.each([
  ['AVX-512', '_ZN7cambium5outerEv', 'vaddps %zmm1,%zmm2,%zmm3'],
  ['AVX-512', '_ZN7cambium4avx25innerEv', 'vaddps %xmm17,%xmm2,%xmm3'],
  ['AVX', '_ZN7cambium8portable5innerEv', 'vaddss %xmm1,%xmm2,%xmm3'],
  ['AVX', '_ZNSt6vectorIfSaIfEE5eraseEv', 'popcnt %rax,%rbx'],
  ['AVX-512 BF16', '_ZN7cambium6avx5125innerEv', 'vdpbf16ps %ymm1,%ymm2,%ymm3'],
  ['AMX', '_ZN7cambium11avx512_bf165innerEv', 'ldtilecfg (%rsp)'],
  ['AMX', '_ZN7cambium6avx5125innerEv', 'tdpbf16ps %tmm2,%tmm1,%tmm0'],
])('a leak of %s into %s is found', (name, symbol, instruction) => {
  const inside = '0010 <_ZN7cambium3amx5innerEv>:\n   10:\ttilerelease\n   14:\tvdpbf16ps %zmm1,%zmm2,%zmm3\n'
  expect(leaks(inside).leaks).toEqual([])
  expect(leaks(`${inside}0020 <${symbol}>:\n   20:\tmov %rax,%rbx\n   24:\t${instruction}\n`).leaks).toContain(`${name} in ${symbol}`)
})
