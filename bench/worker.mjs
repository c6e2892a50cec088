// Our side of a comparison as a worker of interleave.mjs: times one piece of work again and again, and says so as JSON lines.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import process from 'node:process'
import { createInterface } from 'node:readline'

const { native } = createRequire(import.meta.url)('../dist/native.js')

const peakMb = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024

/** @param work resolves to the loss (or another number by which two sides are compared) when all that it queued is done */
async function run(work, count) {
  const seconds = []
  const cpu_seconds = []
  let loss
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    const cpu = process.cpuUsage()
    loss = await work()
    seconds.push((performance.now() - start) / 1000)
    const used = process.cpuUsage(cpu)
    cpu_seconds.push((used.user + used.system) / 1e6)
  }
  return { seconds, cpu_seconds, loss, rss_peak_mb: peakMb(), device_peak_mb: native.memory().peak / 2 ** 20 }
}

/** Answers each line `step N` of standard input with N timings; without `serve` warms up, times five and ends. */
export async function serveWork(work, { serve, ...facts }) {
  const about = { versions: { node: process.version }, ...native.backendInfo(), ...facts, rss_loaded_mb: peakMb() }
  if (!serve) {
    await run(work, 2)
    console.log(JSON.stringify({ ...about, ...(await run(work, 5)) }))
    return
  }
  console.log(JSON.stringify({ ready: true, ...about }))
  for await (const line of createInterface({ input: process.stdin }))
    console.log(JSON.stringify(await run(work, Number(line.split(' ')[1]))))
}
