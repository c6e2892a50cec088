/** `cambium eval --protocol`: the few-shot and retrieval protocols of the papers, method beside method. */
import process from 'node:process'
import type { ProtocolEvent } from '../protocols/protocol.js'
import type { ProtocolReport } from '../protocols/run-protocol.js'
import { INTERRUPTED } from './interrupt.js'
import type { Progress } from './progress.js'
import { protocolSettings } from './protocol-settings.js'
import { readSettings, readTemplates } from './settings.js'
import { formatTable } from './table.js'
import { runWork } from './work.js'

export async function runProtocolCommand(flags: Record<string, unknown>): Promise<number> {
  const settings = await readSettings(protocolSettings, flags, 'expected it without --protocol, got both')
  const { json, quiet, threads, templates, alphas, memoryBudget, ...rest } = settings
  const work: Parameters<typeof runWork<ProtocolReport>>[1] = async ({ signal, progress }) => {
    const { runProtocol } = await import('../protocols/run-protocol.js')
    return runProtocol({
      ...rest,
      tried: alphas,
      templates: await readTemplates(templates),
      memoryBudget: memoryBudget as number | undefined,
      signal,
      onEvent: (event) => tell(progress, event),
    })
  }
  const code = await runWork({ json, quiet, threads }, work, (report) => `${describe(report)}\n${settings.out}/results.md`)
  if (code === INTERRUPTED) process.stderr.write('stopped; what is finished is kept, the same command goes on\n')
  return code
}

function describe({ tables }: ProtocolReport): string {
  const texts = tables.map(({ title, rows }) => `${title}\n${formatTable(rows)}`)
  return [...texts, 'mean ± standard deviation over seeds'].join('\n\n')
}

function tell(progress: Progress, event: ProtocolEvent): void {
  if (event.type === 'cell') progress.say(`${event.cell} of ${event.cells}: ${event.method} on ${event.task}`)
  else if (event.type === 'step') progress.show(event.label, event.step, event.steps)
  else if (event.type === 'evaluate') progress.show(event.label, event.done, event.total)
}
