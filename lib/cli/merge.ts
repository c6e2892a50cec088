/** `cambium merge`. */
import { Command } from 'commander'
import type { TensorDrift } from '../merge/drift.js'
import type { MergeReport } from '../merge/merge-folder.js'
import type { RecipeReport } from '../merge/run-recipe.js'
import type { WriteReport } from '../merge/write-merged.js'
import { formatBytes } from '../train/estimate.js'
import { addOutputFlags, givenFlags, numbers, numeric, repeated } from './flags.js'
import { mergeSettings, recipeSettings } from './merge-settings.js'
import type { Progress } from './progress.js'
import { readSettings, UsageError } from './settings.js'
import { formatTable } from './table.js'
import { runWork } from './work.js'

const EXAMPLES = `
Examples:
  cambium merge --model llama --adapter lora-chat --out llama-chat
  cambium merge --model llama --adapter lora-chat --adapter lora-code --weights 0.7,0.3 --safe --verify --out both
  cambium merge --recipe ties.yaml --out combined
  cambium merge --model clip-vit-base-patch16 --adapter runs/photos/adapter --alpha 0.5 --dtype f32 --out photos-clip

The model is any safetensors checkpoint, sharded or not, of any architecture; an adapter is a PEFT LoRA (rsLoRA, DoRA, biases,
embeddings, convolutions, modules_to_save) or an R-Adapter. Weights are computed in float64 and rounded once, tensor by tensor in
constant memory; what is not changed keeps its bytes. Nothing is written before everything has been found to fit.`

export function mergeCommand(exit: (code: number) => void): Command {
  const command = new Command('merge')
    .description('Fold adapters into the weights: an ordinary checkpoint that any other tool loads')
    .option('--model <path>', 'folder (or file) of the checkpoint that the adapters were trained on')
    .option('--adapter <dir>', 'adapter: of PEFT, or as `cambium train` wrote it; repeatable, merged in this order', repeated)
    .option('--weights <list>', 'factor of each adapter, such as 0.7,0.3 (default: 1; of an R-Adapter: its alpha)', numbers)
    .option(
      '--alpha <a>',
      'of an R-Adapter: from 0, the model as it was, to 1, the adapter in full (default: the one saved with it)',
      numeric,
    )
    .option(
      '--recipe <file>',
      'combine checkpoints or adapters as a YAML file says: averages, SLERP, WiSE-FT, task arithmetic, TIES, DARE, SVD',
    )
    .option('--out <dir>', 'folder for the merged model')
    .option('--dtype <type>', 'of the weights: file (each as in the original), f32, bf16 or f16 (default: file)')
    .option('--safe', 'refuse a result with NaN or infinity')
    .option('--verify [rows]', 'read back and compare with float64: sample (32 rows of each tensor) or all')
    .option('--keep-original', 'also write the original bytes of the changed tensors, for an exact `cambium unmerge`')
    .option('--dry-run', 'say what would be changed, and the sizes; write nothing')
    .option('--config <file>', 'YAML file with any of these settings; flags win')
  return addOutputFlags(command)
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(givenFlags(command))))
}

async function run(flags: Record<string, unknown>): Promise<number> {
  if (flags.recipe !== undefined) return runRecipeFile(flags)
  const { adapter, weights, json, quiet, threads, ...options } = await readSettings(mergeSettings, flags)
  const list = weighted(adapter, weights)
  return runWork(
    { json, quiet, threads },
    async ({ signal, progress }) => {
      const { mergeFolder } = await import('../merge/merge-folder.js')
      return mergeFolder({ ...options, adapter: list, signal, onProgress: megabytes(progress, 'merge') })
    },
    describe,
  )
}

async function runRecipeFile(flags: Record<string, unknown>): Promise<number> {
  const {
    recipe: path,
    json,
    quiet,
    threads,
    ...options
  } = await readSettings(recipeSettings, flags, 'expected it without --recipe, got both')
  const { readRecipe, runRecipe } = await import('../merge/run-recipe.js')
  const recipe = await readRecipe(path)
  return runWork(
    { json, quiet, threads },
    ({ signal, progress }) => {
      const onProgress =
        'adapters' in recipe ? (done: number, total: number) => progress.show('combine', done, total) : megabytes(progress, 'combine')
      return runRecipe(recipe, { ...options, signal, onProgress })
    },
    describeRecipe,
  )
}

/** Adapters with their weights. @throws UsageError for another number of them */
export function weighted(adapter: readonly string[], weights: readonly number[] | undefined): { path: string; weight?: number }[] {
  if (weights !== undefined && weights.length !== adapter.length)
    throw new UsageError(`--weights: expected one for each of ${adapter.length} adapters, got ${weights.length}`)
  return adapter.map((path, i) => ({ path, weight: weights?.[i] }))
}

/** Bytes on a bar. */
export const megabytes = (progress: Progress, task: string) => (done: number, total: number) =>
  progress.show(`${task} (MB)`, Math.round(done / 1e6), Math.round(total / 1e6))

function describeRecipe(report: RecipeReport): string {
  if (report.kind === 'checkpoint') return describe({ ...report, adapters: [], warnings: [] })
  const { modules, adapters, out, seconds } = report
  const errors = modules.flatMap(({ error }) => error ?? [])
  const lost = errors.length === 0 ? '' : `; of the changes ${(100 * Math.max(...errors)).toPrecision(2)} % is lost at most`
  return `combined ${adapters.length} adapters, ${modules.length} modules of rank ${Math.max(...modules.map(({ rank }) => rank))}, in ${seconds.toFixed(1)} s${lost}: ${out}`
}

/** What was written, for people. */
export function describe(report: WriteReport & Partial<Pick<MergeReport, 'adapters' | 'warnings'>>): string {
  const { adapters = [], changed, dryRun, drift, nonFinite, out, warnings = [] } = report
  const lines = warnings.map((warning) => `warning: ${warning}`)
  if (dryRun)
    lines.push(
      formatTable([['tensor', 'type', 'shape', 'size'], ...changed.map((t) => [t.name, t.dtype, `[${t.shape}]`, formatBytes(t.bytes)])]),
    )
  for (const [name, count] of Object.entries(nonFinite)) lines.push(`warning: ${name}: ${count} results are NaN or infinite`)
  if (drift !== undefined && drift.length > 0) lines.push(describeDrift(drift))
  if (!dryRun && adapters.length === 1 && adapters[0].kind === 'r-adapter')
    return [...lines, `merged with alpha ${adapters[0].weight}: ${out}`].join('\n')
  const what = `${changed.length} of ${report.tensors} tensors, ${formatBytes(report.bytes)} in ${report.files.length} file${report.files.length === 1 ? '' : 's'}`
  lines.push(dryRun ? `would change ${what}; nothing written` : `merged ${what}, in ${report.seconds.toFixed(1)} s: ${out}`)
  return lines.join('\n')
}

/** The tensors that lost most. */
function describeDrift(drift: readonly TensorDrift[]): string {
  const worst = [...drift].sort((a, b) => b.ofChange - a.ofChange).slice(0, 8)
  const row = (t: TensorDrift) => [
    t.name,
    t.maxUlp.toFixed(3),
    t.meanUlp.toFixed(3),
    t.relative.toExponential(1),
    `${(100 * t.ofChange).toPrecision(2)} %`,
  ]
  const table = formatTable([['rounding', 'max ulp', 'mean ulp', 'of weight', 'of change'], ...worst.map(row)])
  return `${table}\n${drift.length} tensors verified against float64${drift.length > worst.length ? `; shown: the ${worst.length} whose change lost most` : ''}\n`
}
