/** `cambium unmerge`. */
import { Command } from 'commander'
import type { RestoredTensor, UnmergeReport } from '../merge/unmerge.js'
import { addOutputFlags, givenFlags, numbers, repeated } from './flags.js'
import { describe, megabytes, weighted } from './merge.js'
import { unmergeSettings } from './merge-settings.js'
import { readSettings } from './settings.js'
import { runWork } from './work.js'

const EXAMPLES = `
Examples:
  cambium unmerge --model llama-chat --out llama                             # merged with --keep-original: the same bits
  cambium unmerge --model llama-chat --adapter lora-chat --out llama-again   # by subtraction, rounded once more
  cambium unmerge --model llama-chat --adapter lora-chat --original llama --out llama-again

Subtraction gives each weight to about a unit in the last place of the merged one. DoRA, R-Adapters and replaced tensors cannot be
subtracted: keep the original bytes when you merge.`

export function unmergeCommand(exit: (code: number) => void): Command {
  const command = new Command('unmerge')
    .description('Take adapters out of a merged checkpoint again')
    .option('--model <dir>', 'the merged folder')
    .option('--adapter <dir>', 'adapter to subtract; repeatable (default: the original bytes kept beside the weights)', repeated)
    .option('--weights <list>', 'factor of each adapter (default: as it was merged)', numbers)
    .option('--original <path>', 'the checkpoint before, to compare the result with')
    .option('--out <dir>', 'folder for the result')
    .option('--safe', 'refuse a result with NaN or infinity')
    .option('--verify [rows]', 'read back and compare with float64: sample (32 rows of each tensor) or all')
    .option('--dry-run', 'say what would be changed, and the sizes; write nothing')
    .option('--config <file>', 'YAML file with any of these settings; flags win')
  return addOutputFlags(command)
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(givenFlags(command))))
}

async function run(flags: Record<string, unknown>): Promise<number> {
  const { adapter = [], weights, json, quiet, threads, ...options } = await readSettings(unmergeSettings, flags)
  const list = weighted(adapter, weights)
  return runWork(
    { json, quiet, threads },
    async ({ signal, progress }) => {
      const { unmergeFolder } = await import('../merge/unmerge.js')
      return unmergeFolder({ ...options, adapter: list, signal, onProgress: megabytes(progress, 'unmerge') })
    },
    tell,
  )
}

function tell(report: UnmergeReport): string {
  const lines = [describe(report).replace('merged ', `restored by ${report.by}: `)]
  if (report.isBase !== undefined)
    lines.push(report.isBase ? 'it is the base that was merged (fingerprint)' : 'its bits are not the base’s (fingerprint)')
  if (report.left !== undefined) lines.push(`still in it: ${report.left.join(', ')}`)
  const { compared } = report
  if (compared !== undefined) {
    const most = (pick: (one: RestoredTensor) => number) => Math.max(0, ...compared.map(pick))
    const same = compared.filter(({ changed }) => changed === 0).length
    lines.push(
      `against the original: ${same} of ${compared.length} tensors have the same bits; the others differ by ${most(({ relative }) => relative).toExponential(1)} of the tensor at most`,
    )
  }
  return lines.join('\n')
}
