/** How a command runs: bars, Ctrl-C, one JSON object or a text. */
import process from 'node:process'
import { INTERRUPTED, onInterrupt } from './interrupt.js'
import { createProgress, type Progress } from './progress.js'

export interface WorkFlags {
  readonly json?: boolean
  readonly quiet?: boolean
  readonly threads?: number
}

/** What a command works with. */
export interface WorkContext {
  readonly signal: AbortSignal
  readonly progress: Progress
}

/**
 * Runs `work`, which prints what it has to tell when its progress has stopped.
 * @param interrupted makes the exit code, and may say how to go on, where Ctrl-C stopped the work by its signal's reason
 * @returns the exit code, that of `work` unless interrupted; what `work` throws otherwise is thrown on
 */
export async function runInterruptible(
  { quiet = false, threads }: WorkFlags,
  work: (context: WorkContext) => Promise<number>,
  interrupted: () => number = () => INTERRUPTED,
): Promise<number> {
  const progress = createProgress(quiet)
  const interrupt = onInterrupt((line) => progress.say(line))
  try {
    if (threads !== undefined) (await import('../native.js')).native.setThreads(threads)
    return await work({ signal: interrupt.signal, progress })
  } catch (error) {
    progress.stop()
    if (!interrupt.signal.aborted) throw error
    return interrupted()
  } finally {
    progress.stop()
    interrupt.dispose()
  }
}

/** Runs `work` and prints what it resolves to: as JSON, or as `describe` tells it. Otherwise as `runInterruptible`. */
export function runWork<T>(flags: WorkFlags, work: (context: WorkContext) => Promise<T>, describe: (report: T) => string): Promise<number> {
  return runInterruptible(flags, async (context) => {
    const report = await work(context)
    context.progress.stop()
    process.stdout.write(`${flags.json ? JSON.stringify(report) : describe(report)}\n`)
    return 0
  })
}
