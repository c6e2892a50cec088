import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { native } from '../../lib/native.js'
import { train } from './training-child.js'

// Each Node environment has its own handles, tape, stream and errors; the thread pool is shared.
const start = () => new Worker(join(__dirname, 'training-child.ts'), { execArgv: ['--require', join(__dirname, '../typescript.cjs')] })

const ask = async (worker: Worker, steps: number): Promise<string> => {
  worker.postMessage({ steps })
  return (await once(worker, 'message'))[0] as string
}

test('two workers and the main thread at once give the same bits as one alone', async () => {
  const alone = await train(20)
  expect(alone.length).toBeGreaterThan(1000)
  const workers = [start(), start()]
  const results = await Promise.all([train(20), ...workers.map((worker) => ask(worker, 20))])
  expect(results).toEqual([alone, alone, alone])
  await Promise.all(workers.map((worker) => worker.terminate()))
})

test('a worker that is terminated in the middle of a step harms nobody', async () => {
  const alone = await train(20)
  const before = native.memory()
  for (let i = 0; i < 3; ++i) {
    const doomed = start()
    const other = start()
    doomed.postMessage({ steps: 3, forever: true })
    await once(doomed, 'message')
    const result = ask(other, 20)
    expect(await doomed.terminate()).toBe(1)
    expect(await result).toBe(alone)
    await other.terminate()
  }
  expect(await train(20)).toBe(alone)
  expect(native.memory().live).toBe(before.live)
})
