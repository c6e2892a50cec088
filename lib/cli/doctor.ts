/** `cambium doctor`. */
import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import process from 'node:process'
import { Command } from 'commander'
import { requiredGlibc } from '../addon/elf-versions.js'
import { thisHost } from '../addon/host.js'
import type { CudaFinding } from '../device.js'
import { isCambiumError, messageOf } from '../errors.js'
import { VERSION } from '../version.js'

const HELP = `
Tells whether the native core loads and what it runs on. Exit code 1 when it does not load, with the command that mends it.`

export interface Diagnosis {
  readonly ok: boolean
  readonly versions: { readonly cambium: string; readonly node: string; readonly napi: string; readonly glibc?: string }
  /** Such as `linux-x64 glibc`. */
  readonly platform: string
  readonly processor: string
  /** Bytes; `available` is what this process may still take. */
  readonly memory: { readonly total: number; readonly available: number }
  readonly core: Core | { readonly error: { readonly code: string; readonly message: string } }
}

/** The GPU's name is `gpu` here. */
type CudaReport =
  | {
      readonly available: true
      readonly gpu: string
      readonly products: string
      readonly memory: { readonly free: number; readonly total: number }
    }
  | Extract<CudaFinding, { available: false }>

interface Core {
  readonly path: string
  /** The oldest glibc it runs on. */
  readonly glibc?: string
  /** Level of instructions in force, and all that this processor has. */
  readonly level: string
  readonly levels: readonly string[]
  /** Set when CAMBIUM_CPU chose the level. */
  readonly forced: boolean
  readonly threads: number
  /** Type of products unless one is asked for. */
  readonly dtype: string
  readonly backends: readonly [{ readonly name: 'cpu'; readonly available: true }, { readonly name: 'cuda' } & CudaReport]
}

export function doctorCommand(exit: (code: number) => void): Command {
  const command = new Command('doctor')
    .description('Check the installation: processor, memory, backends, versions')
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP)
    .action(async () => {
      const diagnosis = await diagnose()
      process.stdout.write(`${command.opts().json ? JSON.stringify(diagnosis) : describe(diagnosis)}\n`)
      exit(diagnosis.ok ? 0 : 1)
    })
  return command
}

/** Never throws: a core that does not load is a finding. */
async function diagnose(): Promise<Diagnosis> {
  const host = thisHost()
  const core = await lookAtCore()
  return {
    ok: !('error' in core),
    versions: {
      cambium: VERSION,
      node: process.versions.node,
      napi: process.versions.napi ?? 'none',
      ...(host.glibc && { glibc: host.glibc }),
    },
    platform: `${host.platform}-${host.arch}${host.libc === undefined ? '' : ` ${host.libc}`}`,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    memory: { total: totalmem(), available: (await import('../train/estimate.js')).availableMemory() },
    core,
  }
}

async function lookAtCore(): Promise<Diagnosis['core']> {
  try {
    const { native, addonPath } = await import('../native.js')
    const { defaultDtype } = await import('../models/clip.js')
    const { probeCuda } = await import('../device.js')
    const { level, levels, threads } = native.backendInfo()
    const cuda = probeCuda()
    return {
      path: addonPath,
      glibc: requiredGlibc(readFileSync(addonPath)),
      ...{ level, levels, threads, dtype: defaultDtype() },
      forced: Boolean(process.env.CAMBIUM_CPU),
      backends: [
        { name: 'cpu', available: true },
        { name: 'cuda', ...(cuda.available ? { available: true, gpu: cuda.name, products: cuda.products, memory: cuda.memory } : cuda) },
      ],
    }
  } catch (error) {
    return { error: { code: isCambiumError(error) ? error.code : 'E_ADDON', message: messageOf(error) } }
  }
}

function describe(diagnosis: Diagnosis): string {
  const { versions, platform, processor, memory, core } = diagnosis
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`
  const rows = [
    ['cambium', versions.cambium],
    ['node', `${versions.node}, Node-API ${versions.napi}`],
    ['platform', `${platform}${versions.glibc ? ` ${versions.glibc}` : ''}`],
    ['processor', processor],
    ['memory', `${gib(memory.total)}, ${gib(memory.available)} available`],
  ]
  if ('error' in core) return `${aligned(rows)}\n\nThe native core does not load.\n${core.error.message}`
  rows.push(
    ['core', `${core.path}${core.glibc ? ` (glibc ${core.glibc} or newer)` : ''}`],
    [
      'level',
      `${core.level}${core.forced ? ', forced by CAMBIUM_CPU' : ''}, of ${core.levels.join(' ')}; products in ${core.dtype} unless asked`,
    ],
    ['threads', String(core.threads)],
    ['cpu', 'available'],
    ['cuda', describeCuda(core.backends[1], gib)],
  )
  return `${aligned(rows)}\n\nEverything is in order.`
}

function describeCuda(cuda: CudaReport, gib: (bytes: number) => string): string {
  if (!cuda.available) return `off: ${cuda.reason}`
  return `${cuda.gpu}, ${gib(cuda.memory.free)} of ${gib(cuda.memory.total)} free; products: ${cuda.products}`
}

/** Names and values, without a head. */
function aligned(rows: readonly (readonly string[])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n')
}
