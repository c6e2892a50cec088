// What goes wrong on a device, one after the other in one process; prints what was told.
import { useDevice } from '../../lib/device.js'
import { native } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import { scope, step, synchronize, Tensor } from '../../lib/tensor.js'

const told: Record<string, unknown> = {}

async function outcome(work: () => Promise<unknown>): Promise<string> {
  try {
    return String(await work())
  } catch (error) {
    return `${(error as { code?: string }).code}: ${(error as Error).message}`
  }
}

async function main(): Promise<void> {
  useDevice('cuda')
  const numbers = Tensor.from(Float32Array.of(1, 2, 3, 4), [2, 2])
  told.other = await outcome(async () => useDevice('cpu'))
  told.sum = await outcome(async () => scope(() => ops.sum(ops.add(numbers, numbers))).item())

  const before = native.memory().live
  told.memory = await outcome(async () => Tensor.zeros([1 << 28]))
  told.afterMemory = await outcome(async () => scope(() => ops.sum(numbers)).item())
  told.leaked = native.memory().live - before - 64 // the result above

  const index = (...values: number[]) => Tensor.from(Int32Array.from(values), [values.length], 'i32')
  told.index = await outcome(async () => (await step(() => ops.gatherRows(numbers, index(0, 9)))).data())
  told.afterIndex = await outcome(async () => (await step(() => ops.gatherRows(numbers, index(1, 0)))).data())
  await synchronize()

  // A large tensor goes and comes in pieces, a small one through another way.
  const large = Float32Array.from({ length: 5_000_001 }, (_, i) => i % 1000)
  const back = await Tensor.from(large, [large.length]).floats()
  told.large = large.every((value, i) => value === back[i])

  process.env.CAMBIUM_EMULATION_LOSE = '1'
  told.lost = await outcome(async () => scope(() => ops.sum(numbers)).item())
  told.afterLost = await outcome(async () => scope(() => ops.sum(numbers)).item())
}

main().then(
  () => console.log(JSON.stringify(told)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
