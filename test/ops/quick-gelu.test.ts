/** QuickGELU where its factor under- or overflows, at every CPU level of this machine: x·σ(1.702·x) as IEEE arithmetic has it. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { native } from '../../lib/native.js'

const hook = join(__dirname, '../typescript.cjs')
const lib = (name: string) => JSON.stringify(join(__dirname, '../../lib', name))
const script = `
const ops = require(${lib('ops.ts')}), { Tensor, noGradient, scope } = require(${lib('tensor.ts')})
const x = Float32Array.of(NaN, Infinity, -Infinity, -3e38, -80, 80)
let y
scope(() => {
  const one = Tensor.from(Float32Array.of(1), [1, 1])
  y = noGradient(() => ops.linear(Tensor.from(x, [6, 1]), one, { activation: 'quick_gelu' })).data()
})
y.then((values) => console.log([...values].map((v) => Object.is(v, -0) ? 0 : v).join(' ')))
`

test.each(native.backendInfo().levels)('%s: not a number stays, minus infinity is none, and what is far below zero is zero', (level) => {
  const env = { ...process.env, CAMBIUM_CPU: level }
  const printed = execFileSync(process.execPath, ['--require', hook, '-e', script], { env, encoding: 'utf8' })
  expect(printed.trim()).toBe('NaN Infinity NaN 0 0 80')
})
