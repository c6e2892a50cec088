/** Where a run took place: what decides its bits and its speed. */
import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { native } from '../native.js'

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
  const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as { version: string }
  const { level, threads } = native.backendInfo()
  return {
    cambium: version,
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    level,
    threads,
    memory: totalmem(),
  }
}
