/** Ctrl-C: the first asks the work to stop in good order, the second ends the process. */
import process from 'node:process'

/** Exit code of a process ended by SIGINT. */
export const INTERRUPTED = 130

export interface Interrupt {
  readonly signal: AbortSignal
  dispose(): void
}

/** @param tell says what happens now */
export function onInterrupt(tell: (line: string) => void): Interrupt {
  const controller = new AbortController()
  const stop = () => {
    if (controller.signal.aborted) process.exit(INTERRUPTED)
    tell('stopping after the step at hand; once more quits at once')
    controller.abort()
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  return {
    signal: controller.signal,
    dispose: () => {
      process.off('SIGINT', stop)
      process.off('SIGTERM', stop)
    },
  }
}
