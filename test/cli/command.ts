/** Runs the command line from its sources, as a program of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { runProgram } from '../../lib/cli/program.js'

const root = join(__dirname, '../..')

export interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** What was written, where each line is JSON. */
export const linesOf = ({ out }: Outcome) =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

/** @param started is given the process, for its input */
export function cambium(args: readonly string[], started?: (child: ChildProcess) => void): Promise<Outcome> {
  return run(args, [], {}, started)
}

/** The same, sent SIGINT at the moment when the file first appears under its name, or anew. */
export function interruptedAt(file: string, args: readonly string[]): Promise<Outcome> {
  return run(args, ['--require', join(root, 'test/signal-hook.cjs')], { CAMBIUM_SIGNAL: 'SIGINT', CAMBIUM_SIGNAL_AT: file })
}

function run(
  args: readonly string[],
  flags: readonly string[],
  variables: Record<string, string>,
  started?: (child: ChildProcess) => void,
): Promise<Outcome> {
  const env = { ...process.env, DEBUG: '', CI: '', ...variables }
  const child = spawn(
    process.execPath,
    [...flags, '--require', join(root, 'test/typescript.cjs'), join(root, 'lib/cli/main.ts'), ...args],
    {
      cwd: root,
      env,
    },
  )
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  started?.(child)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, out, err }))
  })
}

/** The same inside the test's own process: faster, for what ends before any work begins. */
export async function program(args: readonly string[]): Promise<Outcome> {
  const written = { out: '', err: '' }
  const capture = (stream: NodeJS.WriteStream, name: 'out' | 'err') =>
    jest.spyOn(stream, 'write').mockImplementation((chunk) => {
      written[name] += String(chunk)
      return true
    })
  const spies = [capture(process.stdout, 'out'), capture(process.stderr, 'err')]
  try {
    const code = await runProgram(args)
    return { code, ...written }
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
}
