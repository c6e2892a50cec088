/**
 * Which device the tensors of this process (or worker) live on. The CPU, unless a GPU is asked for: then the library of CUDA
 * kernels beside the addon is opened, and says why when it cannot be used.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { PACKAGE_ROOT } from './addon/load-addon.js'
import { CambiumError, fail, messageOf } from './errors.js'
import { addonPath, native } from './native.js'

/** 'auto': the GPU when there is one that will do, else the CPU. */
export type Device = 'cpu' | 'cuda' | 'auto'

/** How a GPU computes. */
export interface DeviceOptions {
  /**
   * On a GPU: matrix products of f32 tensors round their operands to TF32 (10 bits of fraction, about 5e-4 relative) and run on
   * tensor cores. Losses, norms and bf16 products are what they are. Default: CAMBIUM_TF32=1 asks for it, nothing else does.
   */
  readonly tf32?: boolean
}

const LIBRARY = 'libcambium_cuda.so'

/** Files that may hold the CUDA kernels, in the order in which they are tried. */
export function cudaLibraries(): string[] {
  const override = process.env.CAMBIUM_CUDA_LIBRARY
  if (override) return [override]
  const beside = join(dirname(addonPath), LIBRARY)
  const others = ['build/Release', `prebuilds/${process.platform}-${process.arch}`].map((folder) => join(PACKAGE_ROOT, folder, LIBRARY))
  return [...new Set([beside, ...others])]
}

function cudaLibrary(): string {
  const tried = cudaLibraries()
  const found = tried.find((path) => existsSync(path))
  if (found) return found
  throw new CambiumError(
    'E_DEVICE',
    `cuda: expected ${LIBRARY}, got none (looked at ${tried.join(', ')}; npx cambium build --cuda makes it)`,
    {
      details: { tried },
    },
  )
}

const cublas = () => process.env.CAMBIUM_CUBLAS ?? null

/** What a GPU answered: its name, what multiplies matrices there, bytes of its memory; or why it cannot be used. */
export type CudaFinding =
  | {
      readonly available: true
      readonly name: string
      readonly products: string
      readonly memory: { readonly free: number; readonly total: number }
    }
  | { readonly available: false; readonly reason: string }

/** Opens the GPU, asks and closes it again. Never throws. */
export function probeCuda(): CudaFinding {
  try {
    const { name, products, free, total } = native.probeDevice(cudaLibrary(), cublas())
    return { available: true, name, products, memory: { free, total } }
  } catch (error) {
    return { available: false, reason: messageOf(error).replace(/^cuda: /, '') }
  }
}

/**
 * Chooses the device of everything from here on.
 * @throws E_OPTION for another name; E_DEVICE when 'cuda' cannot be used, with the reason, or when there are tensors on another
 *   device (or on a GPU that was opened with another `tf32`)
 */
export function useDevice(device: Device, options: DeviceOptions = {}): void {
  if (!['cpu', 'cuda', 'auto'].includes(device)) fail('E_OPTION', 'device', 'cpu, cuda or auto', device)
  const { device: inForce, tf32: rounds } = native.backendInfo()
  const same = options.tf32 === undefined || rounds === undefined || options.tf32 === rounds
  if (same && (device === inForce || (device === 'auto' && inForce === 'cuda'))) return
  if (device === 'auto' && (native.memory().tensors > 0 || !probeCuda().available)) return
  const tf32 = options.tf32 ?? process.env.CAMBIUM_TF32 === '1'
  native.useDevice(device === 'cpu' ? null : cudaLibrary(), cublas(), tf32)
}
