// The case table on the device that CAMBIUM_CUDA_LIBRARY has, in each order of threads that is asked for (on a real GPU the
// order means nothing, and the same bits twice are what is checked). Prints one JSON line.
import { createHash } from 'node:crypto'
import { useDevice } from '../../lib/device.js'
import { native } from '../../lib/native.js'
import { cases } from '../ops/cases.js'
import { alive, checkCase, prepare } from '../ops/check-case.js'

export interface DeviceReport {
  device: string
  checked: number
  failures: string[]
}

async function main(): Promise<DeviceReport> {
  useDevice('cuda')
  const failures: string[] = []
  const wanted = new RegExp(process.env.CAMBIUM_CASES ?? '')
  const part = Number(process.env.CAMBIUM_CASES_PART ?? 0)
  const parts = Number(process.env.CAMBIUM_CASES_PARTS ?? 1)
  const all = (['f32', 'bf16'] as const).flatMap((dtype) => cases.filter((c) => dtype === 'f32' || c.bf16).map((c) => ({ c, dtype })))
  const mine = all.filter(({ c }, i) => wanted.test(c.name) && i % parts === part)
  for (const { c, dtype } of mine) {
    const before = alive()
    const hashes = new Set<string>()
    for (const order of (process.env.CAMBIUM_ORDERS ?? 'forward,shuffle').split(',')) {
      process.env.CAMBIUM_EMULATION_ORDER = order
      try {
        const result = await checkCase(await prepare(c, dtype))
        failures.push(...result.failures.map((failure) => `${dtype} ${c.name}, ${order}: ${failure}`))
        const hash = createHash('sha256')
        for (const bytes of result.bytes) hash.update(bytes)
        hashes.add(hash.digest('hex'))
      } catch (error) {
        failures.push(`${dtype} ${c.name}, ${order}: ${(error as Error).message}`)
        if ((error as { code?: string }).code === 'E_DEVICE') return { device: native.backendInfo().device, checked: 0, failures }
      }
    }
    if (hashes.size > 1) failures.push(`${dtype} ${c.name}: other bits in another order`)
    const after = alive()
    if (after.live !== before.live || after.tensors !== before.tensors) failures.push(`${dtype} ${c.name}: leaves ${after.tensors} tensors`)
  }
  return { device: native.backendInfo().device, checked: mine.length, failures }
}

main().then(
  (report) => console.log(JSON.stringify(report)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
