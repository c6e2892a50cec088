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
import { flagOf, UsageError } from './settings.js'
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
    .configureOutput({ outputError: (text, write) => write(ofCommander(text)) })
  let running: Command | undefined
  // Before a command makes tensors; no command has another use for it.
  program.hook('preAction', async (_, command) => {
    running = command
    if (command.name() !== 'doctor' && command.name() !== 'build') await chooseDevice(command.opts<{ device?: string }>().device)
  })
  for (const create of COMMANDS) program.addCommand(create(exit).copyInheritedSettings(program))
  for (const command of [program, ...program.commands]) command.exitOverride()
  try {
    if (argv.length === 0) program.help({ error: true })
    await program.parseAsync([...argv], { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSED // commander has printed it
    return report(error, running)
  }
}

/** @param flag what --device says; in its absence the environment does */
async function chooseDevice(flag: string | undefined): Promise<void> {
  const device = flag ?? (process.env.CAMBIUM_DEVICE || undefined)
  if (device === undefined) return
  const { useDevice } = await import('../device.js')
  try {
    useDevice(device as Device)
  } catch (error) {
    if (flag !== undefined || !isCambiumError(error) || error.code !== 'E_OPTION') throw error
    throw new UsageError(error.message.replace('device', 'CAMBIUM_DEVICE'))
  }
}

/** Commander's words as one line with our code. */
function ofCommander(text: string): string {
  const line = text.trim().replace(/\.?\n\(Did you mean (.*)\?\)$/, '; did you mean $1?')
  return line.startsWith('error: ') ? `${line.replace(/\.$/, '')} (E_USAGE)\n` : text
}

/** An option of the library by the name that it has on the command line. */
function inFlags(error: unknown, message: string, command: Command | undefined): string {
  const [, option] = /^([a-z]\w*): /.exec(message) ?? []
  if (option === undefined || !isCambiumError(error) || error.code !== 'E_OPTION') return message
  const flag = command?.options.find((one) => one.attributeName() === option)
  return flag === undefined ? message : message.replace(option, flagOf(option))
}

function report(error: unknown, command: Command | undefined): number {
  const code = (error as { code?: unknown } | null)?.code
  const known = typeof code === 'string' ? ` (${code})` : ''
  const debug = process.env.DEBUG
  const detail = debug && error instanceof Error ? `\n${error.stack}` : ''
  const { message = String(error) } = (error ?? {}) as { message?: unknown }
  process.stderr.write(`error: ${inFlags(error, String(message), command)}${known}${detail}\n`)
  return isCambiumError(error) && MISUSE.has(error.code) ? MISUSED : FAILED
}
