// What is left of a device's memory: after steps in one environment, after workers that used the device and ended, after probes.
// Prints the bytes that were free at each place, as one JSON line.
import { join } from 'node:path'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { probeCuda, useDevice } from '../../lib/device.js'
import { native } from '../../lib/native.js'
import * as ops from '../../lib/ops.js'
import { backward, Parameter, step, synchronize, Tensor } from '../../lib/tensor.js'

export interface LeakReport {
  /** after each of some rounds of steps, in a worker */
  steps: number[]
  /** after each worker has ended */
  workers: number[]
  probes: number[]
}

/** Steps with gradients, scratch, copies both ways and a failure; what is free after each round. */
async function work(): Promise<number[]> {
  useDevice('cuda')
  const weight = Parameter.named(
    'w',
    Float32Array.from({ length: 96 * 64 }, (_, i) => (i % 7) / 7),
    [96, 64],
  )
  weight.trainable = true
  const free: number[] = []
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 4; i++) {
      const loss = await step(() => {
        const x = Tensor.from(new Float32Array(32 * 64).fill(i), [32, 64])
        const y = ops.l2Normalize(ops.linear(x, weight))
        const labels = Tensor.from(
          Int32Array.from({ length: 32 }, (_, j) => j),
          [32],
          'i32',
        )
        const result = ops.contrastive(y, y, { labels, scale: Tensor.scalar(1) })
        backward(result)
        return result
      })
      await loss.floats()
      loss.dispose()
      native.dropGradients()
    }
    let told = false
    try {
      const wrong = await step(() => ops.gatherRows(weight, Tensor.from(Int32Array.of(99), [1], 'i32')))
      await wrong.data()
    } catch (error) {
      told = (error as { code?: string }).code === 'E_INDEX'
    }
    if (!told) throw new Error('expected a bad index to be told')
    await synchronize()
    free.push(native.deviceMemory()?.free ?? 0)
  }
  return free
}

const free = () => {
  const found = probeCuda()
  if (!found.available) throw new Error(found.reason)
  return found.memory.free
}

async function main(): Promise<LeakReport> {
  const report: LeakReport = { steps: [], workers: [], probes: [] }
  for (let i = 0; i < 10; i++) report.probes.push(free())
  for (let i = 0; i < 4; i++) {
    const worker = new Worker(__filename, { execArgv: ['--require', join(__dirname, '../typescript.cjs')] })
    const steps = new Promise<number[]>((resolve, reject) =>
      worker.once('message', resolve).once('exit', (code) => reject(new Error(`a worker ended with ${code}`))),
    )
    const ended = new Promise((resolve) => worker.once('exit', resolve)) // may come together with its last message
    report.steps.push(...(await steps))
    if (i % 2 === 0) await worker.terminate()
    await ended
    report.workers.push(free())
  }
  return report
}

const said = isMainThread
  ? main().then((report) => console.log(JSON.stringify(report)))
  : work().then((steps) => parentPort?.postMessage(steps))
said.catch((error) => {
  console.error(error)
  process.exit(1)
})
