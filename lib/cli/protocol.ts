/** `cambium eval --protocol`: the few-shot and retrieval protocols of the papers, method beside method. */
import process from 'node:process'
import type { ProtocolEvent } from '../protocols/protocol.js'
import { INTERRUPTED, onInterrupt } from './interrupt.js'
import { createProgress, type Progress } from './progress.js'
import { protocolSettings } from './protocol-settings.js'
import { readSettings, readTemplates } from './settings.js'
import { formatTable } from './table.js'

export async function runProtocolCommand(flags: Record<string, unknown>): Promise<number> {
  const settings = await readSettings(protocolSettings, flags)
  const { json = false, quiet = false, threads, templates, alphas, memoryBudget, ...rest } = settings
  const progress = createProgress(quiet)
  const interrupt = onInterrupt((line) => progress.say(line))
  try {
    const { runProtocol } = await import('../protocols/run-protocol.js')
    if (threads !== undefined) (await import('../native.js')).native.setThreads(threads)
    const report = await runProtocol({
      ...rest,
      tried: alphas,
      templates: await readTemplates(templates),
      memoryBudget: memoryBudget as number | undefined,
      signal: interrupt.signal,
      onEvent: (event) => tell(progress, event),
    })
    progress.stop()
    const tables = report.tables.map(({ title, rows }) => `${title}\n${formatTable(rows)}`).join('\n\n')
    process.stdout.write(
      json ? `${JSON.stringify(report)}\n` : `${tables}\n\nmean ± standard deviation over seeds; ${settings.out}/results.md\n`,
    )
    return 0
  } catch (error) {
    progress.stop()
    if (!interrupt.signal.aborted) throw error
    process.stderr.write('stopped; what is finished is kept, the same command goes on\n')
    return INTERRUPTED
  } finally {
    progress.stop()
    interrupt.dispose()
  }
}

function tell(progress: Progress, event: ProtocolEvent): void {
  if (event.type === 'cell') progress.say(`${event.cell} of ${event.cells}: ${event.method} on ${event.task}`)
  else if (event.type === 'step') progress.show(event.label, event.step, event.steps)
  else if (event.type === 'evaluate') progress.show(event.label, event.done, event.total)
}
