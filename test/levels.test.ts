import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

// The fixtures of the models, methods and objectives at every CPU level that this machine has. A level is chosen once a
// process, so each runs in a jest of its own; one that the machine lacks shows by name and is refused by the core.
const root = join(__dirname, '..')
const runner = require.resolve('jest/bin/jest')
const hook = join(__dirname, 'typescript.cjs')

function run(level: string, args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    env: { ...process.env, CAMBIUM_CPU: level },
    encoding: 'utf8',
  })
  return { status, stdout, text: stdout + stderr }
}

const asked = `try { console.log(require(${JSON.stringify(join(root, 'lib/native.ts'))}).native.backendInfo().level) } catch (e) { console.log(e.code) }`

for (const level of ['portable', 'avx2', 'avx512', 'avx512_bf16', 'amx']) {
  const inForce = run(level, ['--require', hook, '-e', asked]).stdout.trim()
  if (inForce !== level) {
    test(`${level}: not on this machine, and refused`, () => expect(inForce).toBe('E_CPU'))
    continue
  }
  test(`${level}: features, gradients, steps and merges of the fixtures`, () => {
    const { status, text } = run(level, [runner, '--testTimeout=600000', 'test/models', 'test/methods', 'test/objectives', 'test/adapters'])
    expect({ status, text: status === 0 ? '' : text }).toEqual({ status: 0, text: '' })
    expect(Number(/Tests:\s+(\d+) passed/.exec(text)?.[1])).toBeGreaterThan(25)
  }, 600_000)
}
