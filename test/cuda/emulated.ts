// The CUDA backend on the emulated device (native/cuda/emulation): where its library is, and Node processes that use it.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

export const EMULATED_LIBRARY = join(__dirname, '../../build/cuda-emulated/libcambium_cuda_emulated.so')
/** A cuBLASLt for it, as `CAMBIUM_CUBLAS` names it. */
export const EMULATED_CUBLAS = join(__dirname, '../../build/cuda-emulated/libcublasLt_emulated.so')
if (!existsSync(EMULATED_LIBRARY)) throw new Error(`${EMULATED_LIBRARY}: expected it to be built: npm run build:cuda -- --emulated`)

const hook = join(__dirname, '../typescript.cjs')

/** Runs a TypeScript program of this folder in a process of its own with an environment; what it prints. */
export async function child(program: string, env: Record<string, string> = {}): Promise<string> {
  const options = { env: { ...process.env, CAMBIUM_CUDA_LIBRARY: EMULATED_LIBRARY, ...env }, maxBuffer: 1 << 26 }
  const { stdout } = await promisify(execFile)(process.execPath, ['--require', hook, join(__dirname, program)], options)
  return stdout.trim()
}
