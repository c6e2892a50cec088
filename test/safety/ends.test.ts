import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { PHASES, type Phase, steps } from './busy-child.js'
import { preparePlace } from './place.js'

// However and whenever a process or a worker ends: with the code it chose, no crash, no hang, and what belonged to it is gone.
jest.setTimeout(600_000) // a busy machine is no failure
const { place, at } = preparePlace()
const typescript = ['--require', join(__dirname, '../typescript.cjs')]
const ROUNDS = Math.max(6, Number(process.env.CAMBIUM_WORKER_ROUNDS ?? 6))
// Half of what three rounds of eight workers would leave if each left its model of 3.4 MB. Allocators keep more from round to round
// until they have what eight workers ask for, so there are more rounds while it grows; a leak grows in all of them.
const LEAK = 0.5 * 3 * 8 * 3.4e6

interface End {
  code: number | string | null | undefined
  signal: string | null | undefined
  stdout: string
  stderr: string
}

const run = (phase: Phase, how: string, delay: number): Promise<End> =>
  new Promise((resolve) => {
    const args = [...typescript, join(__dirname, 'busy-child.ts'), JSON.stringify(place), phase, how, String(delay)]
    execFile(process.execPath, args, { timeout: 300_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, signal: error?.signal, stdout, stderr }),
    )
  })

test.each(PHASES)('a process that exits in the middle of: %s', async (phase) => {
  const ends = await Promise.all([run(phase, 'exit', -1), run(phase, 'exit', 2)])
  for (const end of ends) expect(end).toMatchObject({ code: 7, stderr: '' })
})

test.each(['throw', 'reject'])('a process that ends by an error nobody handles: %s', async (how) => {
  const ends = await Promise.all([run('queued', how, 1), run('save', how, 1)])
  for (const end of ends) expect(end).toMatchObject({ code: 1, stderr: expect.stringContaining('in the middle') })
})

test('a process that has done everything ends by itself', async () => {
  const ends = await Promise.all([run('queued', 'nothing', 0), run('merge', 'nothing', 0)])
  for (const end of ends) expect(end).toMatchObject({ code: 0, stdout: 'whole\n', stderr: '' })
})

/** Starts a worker and waits until it is in the phase. */
async function startedWorker(name: string, until: Phase): Promise<Worker> {
  const worker = new Worker(join(__dirname, 'busy-child.ts'), { execArgv: typescript, workerData: { ...place, out: at(name) } })
  while ((await once(worker, 'message'))[0] !== until);
  return worker
}

test('eight workers that load, train and save are terminated in the middle, again and again', async () => {
  const clip = await Clip.load(place.clip, { dtype: 'f32' })
  const adapter = new RAdapter(clip, { rank: 2 })
  const features = async () => {
    const pixels = Float32Array.from({ length: 3 * 40 * 40 }, (_, i) => Math.sin(i))
    const { scope, Tensor } = await import('../../lib/tensor.js')
    const tensor = scope(() => clip.encodeImage(Tensor.from(pixels, [1, 3, 40, 40])))
    const values = await tensor.floats()
    tensor.dispose()
    return values
  }
  const before = await features()
  await steps(clip, adapter, 1) // gradients come with the first
  const { live } = native.memory()
  const sizes: number[] = []
  const least = (from: number, to?: number) => Math.min(...sizes.slice(from, to))
  const growth = () => least(-3) - least(-6, -3)
  for (let round = 0; round < ROUNDS || (growth() >= LEAK && round < 10 * ROUNDS); round++) {
    const workers = await Promise.all(Array.from({ length: 8 }, (_, i) => startedWorker(`w${i}`, PHASES[(i + round) % PHASES.length])))
    const ours = steps(clip, adapter, 2) // the main thread works on while they go
    expect(await Promise.all(workers.map((worker) => worker.terminate()))).toEqual(Array(8).fill(1))
    await ours
    sizes.push(process.memoryUsage().rss)
  }
  expect(await features()).toEqual(before)
  expect(native.memory().live).toBe(live)
  expect(growth()).toBeLessThan(LEAK)
  adapter.dispose()
  clip.dispose()
}, 600_000)
