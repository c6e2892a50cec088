import { setTimeout as pause } from 'node:timers/promises'
import { native } from '../../lib/native.js'
import { linear } from '../../lib/ops.js'
import { step, synchronize, Tensor } from '../../lib/tensor.js'

// Threads wait asleep: a process that has worked on all of them and now does nothing takes no CPU time. A thread that
// spun would take the whole pause; what Node itself does meanwhile is far below the bound.
test('no CPU time is taken after work', async () => {
  const threads = native.backendInfo().threads
  native.setThreads(4)
  try {
    await step(() => {
      linear(Tensor.zeros([512, 256]), Tensor.zeros([256, 256]))
    })
    await synchronize()
    await pause(100)
    const milliseconds = 600
    const before = process.cpuUsage()
    await pause(milliseconds)
    const { user, system } = process.cpuUsage(before)
    expect((user + system) / 1000).toBeLessThan(milliseconds / 10)
  } finally {
    native.setThreads(threads)
  }
})
