import { execFile, execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cases } from './cases.js'
import type { LevelReport } from './levels-child.js'

// The case table at every CPU level that this machine has, each in a process of its own because a level is chosen once.
// A level that the machine lacks shows as a test of its own, which checks that the core says so and steps down.
const levels = ['portable', 'avx2', 'avx512', 'avx512_bf16', 'amx']
const hook = join(__dirname, '../typescript.cjs')
const at = (level: string) => ({ env: { ...process.env, CAMBIUM_CPU: level }, encoding: 'utf8' as const })

function levelInForce(asked: string): string {
  const script = `console.log(require(${JSON.stringify(join(__dirname, '../../lib/native.ts'))}).native.backendInfo().level)`
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
    }, 120_000)
  } else {
    test(`${level}: not on this machine, which runs ${inForce}`, () => {
      expect(levels).toContain(inForce)
      expect(levels.indexOf(inForce)).toBeLessThan(levels.indexOf(level))
    })
  }
}

test('a level that does not exist is no reason to run something unknown', () => {
  expect(levels).toContain(levelInForce('sse9'))
})
