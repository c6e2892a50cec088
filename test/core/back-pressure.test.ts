import { native } from '../../lib/native.js'
import { linear } from '../../lib/ops.js'
import { step, synchronize, Tensor } from '../../lib/tensor.js'

// At most two steps are in flight, in a loop and when steps are asked for all at once.
const n = 256
let weight: Tensor
beforeAll(() => {
  weight = Tensor.zeros([n, n])
})
afterAll(() => weight.dispose())

/** Steps that note when they are queued and when they have run. */
function steps() {
  const queued: number[] = []
  const ran = new Set<number>()
  let most = 0
  const run = (i: number) =>
    step(() => {
      queued.push(i)
      most = Math.max(most, queued.length - ran.size)
      linear(Tensor.zeros([n, n]), weight)
      native.passed().then(() => ran.add(i)) // before the step's own fence
    })
  return { run, queued, ran, most: () => most }
}

test('two run at once, the third waits for the first', async () => {
  await synchronize()
  const { run, queued, most } = steps()
  const all = [0, 1, 2, 3, 4, 5].map(run)
  expect(queued).toEqual([0, 1]) // nothing has been awaited
  await Promise.all(all)
  expect(queued).toEqual([0, 1, 2, 3, 4, 5])
  expect(most()).toBe(2)
})

test('in a loop as well', async () => {
  await synchronize()
  const { run, queued, ran, most } = steps()
  for (let i = 0; i < 12; ++i) await run(i)
  expect(most()).toBe(2)
  expect(queued.length - ran.size).toBeLessThanOrEqual(2)
})

test('a step that throws takes no place for ever', async () => {
  for (let i = 0; i < 5; ++i) {
    await expect(
      step(() => {
        throw new Error(`${i}`)
      }),
    ).rejects.toThrow(`${i}`)
  }
  const { run, most } = steps()
  for (let i = 0; i < 3; ++i) await run(i)
  expect(most()).toBeLessThanOrEqual(2)
})
