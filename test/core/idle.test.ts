import { setTimeout as pause } from 'node:timers/promises'
import { native } from '../../lib/native.js'
import { linear } from '../../lib/ops.js'
import { step, synchronize, Tensor } from '../../lib/tensor.js'

// Threads wait asleep: a process that has worked on all of them and now does nothing takes no CPU time. A thread that
// spun would take the whole of each pause; of what Node itself does meanwhile (compiling, collecting) there is none in some pause.
test('no CPU time is taken after work', async () => {
  const threads = native.backendInfo().threads
  native.setThreads(4)
  try {
    await step(() => {
      linear(Tensor.zeros([512, 256]), Tensor.zeros([256, 256]))
    })
    await synchronize()
    const taken: number[] = []
    for (let i = 0; i < 6; i++) {
      const before = process.cpuUsage()
      await pause(150)
      const { user, system } = process.cpuUsage(before)
      taken.push((user + system) / 150_000)
    }
    expect(Math.min(...taken)).toBeLessThan(0.1)
  } finally {
    native.setThreads(threads)
  }
})
