import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { EMULATED_LIBRARY } from './emulated.js'

// When a process ends, streams may still run and the driver may be gone: nothing of the backend may be freed then. An object with
// a destructor at namespace scope, or static in a function, would register it with __cxa_atexit.
test('nothing is freed from static destructors', () => {
  const folder = join(dirname(EMULATED_LIBRARY), 'CMakeFiles/cambium_cuda_emulated.dir/native/cuda')
  const objects = readdirSync(folder).filter((file) => file.endsWith('.o'))
  expect(objects).toEqual(expect.arrayContaining(['cublas_library.cc.o', 'cublas_lt.cc.o', 'device.cc.o', 'linear.cu.o']))
  const symbols = execFileSync('nm', ['-A', '-u', ...objects.map((file) => join(folder, file))], { encoding: 'utf8', maxBuffer: 1 << 26 })
  const registers = symbols.split('\n').filter((line) => /\b(atexit|__cxa_atexit)\b/.test(line))
  expect(registers).toEqual([])
})
