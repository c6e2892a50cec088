import { execFile, execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cases } from './cases.js'
import type { LevelReport } from './levels-child.js'

// The case table at every CPU level that this machine has, each in a process of its own because a level is chosen once.
// A level that the machine lacks shows as a test of its own: asking for it is an error that says so.
const levels = ['portable', 'avx2', 'avx512', 'avx512_bf16', 'amx']
const hook = join(__dirname, '../typescript.cjs')
const at = (level: string) => ({ env: { ...process.env, CAMBIUM_CPU: level }, encoding: 'utf8' as const })

/** The level in force when this one is asked for, or the code and the message of the error. */
function levelInForce(asked: string): string {
  const source = JSON.stringify(join(__dirname, '../../lib/native.ts'))
  const script = `try { console.log(require(${source}).native.backendInfo().level) } catch (e) { console.log(e.code, e.message) }`
  return execFileSync(process.execPath, ['--require', hook, '-e', script], at(asked)).trim()
}

const expected = cases.length + cases.filter((c) => c.bf16).length

for (const level of levels) {
  const inForce = levelInForce(level)
  if (inForce === level) {
    test(`${level}: every case in f32 and bf16, the same bits for one and three threads`, async () => {
      const { stdout } = await promisify(execFile)(process.execPath, ['--require', hook, join(__dirname, 'levels-child.ts')], at(level))
      const report = JSON.parse(stdout) as LevelReport
      expect(report).toEqual({ level, checked: expected, failures: [] })
    }, 600_000)
  } else {
    test(`${level}: not on this machine, and refused`, () => {
      expect(level).not.toBe('portable')
      expect(inForce).toBe(`E_CPU CAMBIUM_CPU: expected a level of this machine, got ${level}`)
    })
  }
}

test('a level that does not exist is refused', () => {
  expect(levelInForce('sse9')).toBe('E_CPU CAMBIUM_CPU: expected portable, avx2, avx512, avx512_bf16 or amx, got sse9')
})

test('without a choice the machine decides', () => {
  expect(levels).toContain(levelInForce(''))
})
