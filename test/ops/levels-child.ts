// The whole case table at the CPU level that CAMBIUM_CPU forces, with one thread and with three. Prints one JSON line.
import { createHash } from 'node:crypto'
import { native } from '../../lib/native.js'
import { cases } from './cases.js'
import { checkCase, prepare } from './check-case.js'

export interface LevelReport {
  level: string
  checked: number
  failures: string[]
}

async function main(): Promise<LevelReport> {
  const failures: string[] = []
  let checked = 0
  for (const dtype of ['f32', 'bf16'] as const) {
    for (const c of cases) {
      if (dtype === 'bf16' && !c.bf16) continue
      const prepared = await prepare(c, dtype)
      const hashes = new Set<string>()
      for (const threads of [1, 3]) {
        native.setThreads(threads)
        const result = await checkCase(prepared)
        failures.push(...result.failures.map((failure) => `${dtype} ${c.name}, ${threads} threads: ${failure}`))
        const hash = createHash('sha256')
        for (const bytes of result.bytes) hash.update(bytes)
        hashes.add(hash.digest('hex'))
      }
      if (hashes.size > 1) failures.push(`${dtype} ${c.name}: one and three threads gave different bits`)
      ++checked
    }
  }
  return { level: native.backendInfo().level, checked, failures }
}

main().then(
  (report) => console.log(JSON.stringify(report)),
  (error) => {
    console.error(error)
    process.exitCode = 1
  },
)
