/** Work in a process of its own (kill-child.ts), killed at a moment or at a step. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { KilledWork } from './kill-child.js'

export interface Kill {
  /** milliseconds after it is ready */
  readonly delay?: number
  /** a file: killed when it first appears under its name */
  readonly file?: string
}

export interface End {
  /** what was to do is done */
  readonly done: boolean
  /** from `ready` to the end */
  readonly milliseconds: number
  /** of a process that ended by itself */
  readonly code: number | null
  readonly err: string
}

export function killedProcess(work: KilledWork, { delay, file = '' }: Kill = {}): Promise<End> {
  const required = ['../signal-hook.cjs', '../typescript.cjs'].flatMap((name) => ['--require', join(__dirname, name)])
  const child = spawn(process.execPath, [...required, join(__dirname, 'kill-child.ts'), JSON.stringify(work)], {
    env: { ...process.env, CAMBIUM_SIGNAL: 'SIGKILL', CAMBIUM_SIGNAL_AT: file },
  })
  let [out, err, began] = ['', '', 0]
  let timer: NodeJS.Timeout | undefined
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  child.stdout.on('data', (chunk) => {
    out += chunk
    if (began > 0 || !out.startsWith('ready')) return
    began = performance.now()
    if (delay !== undefined) timer = setTimeout(() => child.kill('SIGKILL'), delay)
  })
  return new Promise((resolve) =>
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ done: out.includes('done'), milliseconds: performance.now() - began, code, err })
    }),
  )
}
