// Asks for 2 GiB in one tensor and says what came: how much address space the process has before, or the error.
import { readFileSync } from 'node:fs'
import { Tensor } from '../../lib/tensor.js'

Tensor.zeros([4])
if (process.argv[2] === 'size') process.stdout.write(/VmSize:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '')
else
  try {
    Tensor.zeros([2 ** 29])
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    process.stdout.write(`${code}: ${message}`)
  }
