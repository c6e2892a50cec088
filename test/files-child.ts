// A process whose workers open, write and remove files without end, and are terminated in the middle of it.
import { once } from 'node:events'
import { join } from 'node:path'
import { isMainThread, parentPort, threadId, Worker, workerData } from 'node:worker_threads'
import { FileHandle, stat, unlink } from '../lib/files.js'

const [folder, rounds] = isMainThread ? [process.argv[2], Number(process.argv[3])] : [workerData as string, 0]

async function writeForEver(path: string): Promise<void> {
  for (;;) {
    await stat(join(folder, 'missing')).catch(() => undefined)
    const handle = await FileHandle.open(path, 'w')
    await handle.write(Buffer.from('x'))
    await handle.close()
    await unlink(path)
  }
}

async function main(): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const workers = Array.from({ length: 8 }, () => new Worker(__filename, { execArgv: process.execArgv, workerData: folder }))
    await Promise.all(workers.map((worker) => once(worker, 'message')))
    await new Promise((resolve) => setTimeout(resolve, round % 5))
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
  process.stdout.write('whole\n')
}

if (isMainThread) void main()
else {
  for (let i = 0; i < 4; i++) void writeForEver(join(folder, `${threadId}-${i}`))
  parentPort?.postMessage('writing')
}
