/**
 * The program. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted (training has saved a checkpoint).
 * Results go to stdout, all else to stderr. Errors are one line, `error: message (CODE)`; DEBUG=1 adds the stack.
 */
import process from 'node:process'
import { Command, CommanderError } from 'commander'
import type { Device } from '../device.js'
import { isCambiumError } from '../errors.js'
import { VERSION } from '../version.js'
import { buildCommand } from './build.js'
import { classifyCommand } from './classify.js'
import { doctorCommand } from './doctor.js'
import { embedCommand } from './embed.js'
import { evalCommand } from './eval.js'
import { extractCommand } from './extract.js'
import { inspectCommand } from './inspect.js'
import { learnCommand } from './learn.js'
import { mergeCommand } from './merge.js'
import { reportCommand } from './report.js'
import { trainCommand } from './train.js'
import { unmergeCommand } from './unmerge.js'

/** In the order of --help. */
const COMMANDS: readonly ((exit: (code: number) => void) => Command)[] = [
  trainCommand,
  learnCommand,
  evalCommand,
  mergeCommand,
  unmergeCommand,
  extractCommand,
  reportCommand,
  classifyCommand,
  embedCommand,
  inspectCommand,
  doctorCommand,
  buildCommand,
]

const FAILED = 1
const MISUSED = 2
/** Codes of mistakes in what was asked for, not in what happened. */
const MISUSE: ReadonlySet<string> = new Set(['E_USAGE', 'E_OPTION', 'E_TEMPLATE'])

/** Runs a command line (without node and script); resolves to the exit code and never rejects. */
export async function runProgram(argv: readonly string[]): Promise<number> {
  let code = 0
  const exit = (value: number) => {
    code = value
  }
  const program = new Command('cambium')
    .description('Teach CLIP new things without losing what it knows')
    .version(VERSION)
    .showHelpAfterError('(add --help for what there is)')
  // Before a command makes tensors; no command has another use for it.
  program.hook('preAction', async (_, command) => {
    const device = command.opts<{ device?: Device }>().device ?? (process.env.CAMBIUM_DEVICE as Device | undefined)
    if (device && command.name() !== 'doctor' && command.name() !== 'build') (await import('../device.js')).useDevice(device)
  })
  for (const create of COMMANDS) program.addCommand(create(exit).copyInheritedSettings(program))
  for (const command of [program, ...program.commands]) command.exitOverride()
  try {
    if (argv.length === 0) program.help({ error: true })
    await program.parseAsync([...argv], { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSED // commander has printed it
    return report(error)
  }
}

function report(error: unknown): number {
  const code = (error as { code?: unknown } | null)?.code
  const known = typeof code === 'string' ? ` (${code})` : ''
  const debug = process.env.DEBUG
  const detail = debug && error instanceof Error ? `\n${error.stack}` : ''
  const { message = String(error) } = (error ?? {}) as { message?: unknown }
  process.stderr.write(`error: ${message}${known}${detail}\n`)
  return isCambiumError(error) && MISUSE.has(error.code) ? MISUSED : FAILED
}
