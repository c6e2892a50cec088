/** `cambium extract`. */
import { Command } from 'commander'
import type { ExtractReport } from '../merge/extract.js'
import { addOutputFlags, givenFlags, numeric } from './flags.js'
import { extractSettings } from './merge-settings.js'
import { readSettings } from './settings.js'
import { formatTable } from './table.js'
import { runWork } from './work.js'

const EXAMPLES = `
Examples:
  cambium extract --base llama --model llama-chat --rank 32 --out lora-chat
  cambium extract --base clip --model clip-tuned --targets q_proj,v_proj --rank 8 --out lora

Writes a PEFT adapter. Energy is the share of the squared change that it keeps; tensors that it cannot hold are named.`

export function extractCommand(exit: (code: number) => void): Command {
  const command = new Command('extract')
    .description('A LoRA from two checkpoints: the change between them at a low rank, by SVD')
    .option('--base <path>', 'the checkpoint before')
    .option('--model <path>', 'the checkpoint after')
    .option('--out <dir>', 'folder for the adapter')
    .option('--rank <r>', 'of the adapter (default: 16)', numeric)
    .option('--targets <names>', 'modules by name or suffix, or one regular expression (default: all-linear: all but embeddings and heads)')
    .option('--exact', 'never a random subspace, as matrices with both sides above 1024 take it')
    .option('--config <file>', 'YAML file with any of these settings; flags win')
  return addOutputFlags(command)
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(givenFlags(command))))
}

async function run(flags: Record<string, unknown>): Promise<number> {
  const { json, quiet, threads, ...options } = await readSettings(extractSettings, flags)
  return runWork(
    { json, quiet, threads },
    async ({ signal, progress }) => {
      const { extractLora } = await import('../merge/extract.js')
      return extractLora({ ...options, signal, onProgress: (done, total) => progress.show('extract', done, total) })
    },
    tell,
  )
}

function tell({ modules, left, rank, out, seconds }: ExtractReport): string {
  const rows = modules.map((one) => [
    one.module,
    `[${one.shape}]`,
    one.change.toExponential(1),
    `${(100 * one.energy).toFixed(1)} %`,
    `${(100 * one.error).toPrecision(2)} %`,
  ])
  const lines = [formatTable([['module', 'shape', 'change', 'energy kept', 'error'], ...rows])]
  if (left.length > 0) lines.push(`changed and not in the adapter: ${left.join(', ')}`)
  lines.push(`${modules.length} modules of rank ${rank}, in ${seconds.toFixed(1)} s: ${out}`)
  return lines.join('\n')
}
