/** How a command that writes runs: bars, Ctrl-C, one JSON object or a text. */
import process from 'node:process'
import { INTERRUPTED, onInterrupt } from './interrupt.js'
import { createProgress, type Progress } from './progress.js'

export interface WorkFlags {
  readonly json?: boolean
  readonly quiet?: boolean
  readonly threads?: number
}

/**
 * Runs `work` and prints what it resolves to: as JSON, or as `describe` tells it.
 * @returns the exit code; what `work` throws is thrown on, unless Ctrl-C made it
 */
export async function runWork<T>(
  { json = false, quiet = false, threads }: WorkFlags,
  work: (context: { signal: AbortSignal; progress: Progress }) => Promise<T>,
  describe: (report: T) => string,
): Promise<number> {
  const progress = createProgress(quiet)
  const interrupt = onInterrupt(() => {})
  try {
    if (threads !== undefined) (await import('../native.js')).native.setThreads(threads)
    const report = await work({ signal: interrupt.signal, progress })
    progress.stop()
    process.stdout.write(`${json ? JSON.stringify(report) : describe(report)}\n`)
    return 0
  } catch (error) {
    if (!interrupt.signal.aborted) throw error
    return INTERRUPTED
  } finally {
    progress.stop()
    interrupt.dispose()
  }
}
