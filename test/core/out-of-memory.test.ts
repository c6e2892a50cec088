import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { native } from '../../lib/native.js'
import { add, linear, sum } from '../../lib/ops.js'
import { backward, Parameter, step, synchronize, Tensor } from '../../lib/tensor.js'
import { codeOf, thrownBy } from './code-of.js'

// Running out of memory is an error at the call, never an abort, and the process goes on.
const MB = 2 ** 20

beforeEach(async () => {
  await synchronize()
  native.trim()
})
afterEach(() => native.setMemoryBudget(0))

test('a budget is kept', () => {
  const { reserved } = native.memory()
  native.setMemoryBudget(reserved + 32 * MB)
  const before = native.memory().tensors
  const held: Tensor[] = []
  const code = thrownBy(() => {
    for (;;) held.push(Tensor.zeros([MB]))
  })
  expect(code).toBe('E_OUT_OF_MEMORY')
  expect(held.length).toBeGreaterThanOrEqual(6)
  expect(native.memory().reserved).toBeLessThanOrEqual(reserved + 32 * MB)
  expect(() => Tensor.zeros([MB])).toThrow(/^tensor: expected 4194304 free bytes, got /)
  for (const t of held) t.dispose()
  expect(native.memory().tensors).toBe(before)
})

test('a step that does not fit fails as a whole, and a smaller one runs', async () => {
  const w = Parameter.named('w', new Float32Array(64 * 64).fill(0.5), [64, 64])
  w.trainable = true
  const train = (rows: number) =>
    step(() => {
      let x = linear(Tensor.zeros([rows, 64]), w)
      for (let i = 0; i < 6; ++i) x = add(linear(x, w), x)
      const loss = sum(x)
      backward(loss)
      return loss
    })
  const { tensors, live, reserved } = native.memory()
  native.setMemoryBudget(reserved + 24 * MB)
  expect(await codeOf(() => train(40_000))).toBe('E_OUT_OF_MEMORY')
  expect(w.gradient).toBeUndefined()
  expect(native.memory()).toMatchObject({ tensors, live })
  const loss = await train(1000)
  expect(await loss.item()).toBe(0)
  loss.dispose()
  w.dispose()
})

test('memory that is free but cut up wrongly is given back and taken again', async () => {
  const { reserved } = native.memory()
  native.setMemoryBudget(reserved + 64 * MB)
  for (const megabytes of [20, 40, 10, 60, 30]) {
    const t = Tensor.zeros([(megabytes * MB) / 4])
    expect((await t.floats()).length).toBe((megabytes * MB) / 4)
    t.dispose()
  }
})

test('more than the machine has is an error as well', () => {
  expect(thrownBy(() => Tensor.zeros([2 ** 41], 'u8'))).toBe('E_SHAPE')
  native.setMemoryBudget(2 ** 33)
  const n = 2 ** 18
  const code = thrownBy(() => {
    native.enterScope()
    try {
      const f = Tensor.zeros([n, 1])
      linear(f, f) // N×N floats: 256 GiB
    } finally {
      native.leaveScope([])
    }
  })
  expect(code).toBe('E_OUT_OF_MEMORY')
})

test('a limit on the address space: what was asked for, and who refused it', () => {
  if (process.platform !== 'linux') return
  const child = (what: string, limit = '') => {
    const command = `${limit} exec "$0" --require "$1" "$2" ${what}`
    const parts = [process.execPath, join(__dirname, '../typescript.cjs'), join(__dirname, 'limited-child.ts')]
    return execFileSync('sh', ['-c', command, ...parts], { encoding: 'utf8' })
  }
  const kilobytes = Number(child('size'))
  expect(kilobytes).toBeGreaterThan(1000)
  expect(child('ask', `ulimit -v ${kilobytes + 2 ** 20};`)).toMatch(
    /^E_OUT_OF_MEMORY: tensor: expected 2147483648 free bytes, got none: the machine refused 2147483648 bytes .*\(ulimit -v\)$/,
  )
})
