/** Where a run took place: what decides its bits and its speed. */
import { cpus, totalmem } from 'node:os'
import process from 'node:process'
import { native } from '../native.js'
import { VERSION } from '../version.js'

export interface Environment {
  readonly cambium: string
  readonly node: string
  /** Such as `linux x64`. */
  readonly platform: string
  /** Name of the processor. */
  readonly processor: string
  /** Level of its instructions that the core used. */
  readonly level: string
  readonly threads: number
  /** Bytes of the machine. */
  readonly memory: number
}

export function environment(): Environment {
  const { level, threads } = native.backendInfo()
  return {
    cambium: VERSION,
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    level,
    threads,
    memory: totalmem(),
  }
}

/** Why a run that goes on may not end with the same bits: those are promised for one version and CPU level. */
export function otherBits(begun: Pick<Environment, 'cambium' | 'level'> | undefined): { warning?: string } {
  const { level } = native.backendInfo()
  if (!begun || (begun.level === level && begun.cambium === VERSION)) return {}
  return { warning: `goes on with ${VERSION} at level ${level}, begun with ${begun.cambium} at ${begun.level}: the last bits may differ` }
}
