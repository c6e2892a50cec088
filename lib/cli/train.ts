/** `cambium train`. */
import { join } from 'node:path'
import process from 'node:process'
import { Command } from 'commander'
import { formatBytes } from '../train/estimate.js'
import type { FineTuneEvent, FineTuneOptions, FineTuneReport } from '../train/fine-tune.js'
import { addImageFlags, addOutputFlags, givenFlags, numbers, numeric, repeated } from './flags.js'
import { INTERRUPTED } from './interrupt.js'
import { loraSettings } from './lora-settings.js'
import { formatSeconds, type Progress } from './progress.js'
import { type Baseline, readNames, readSettings, readTemplates, trainSettings } from './settings.js'
import { resultsTable } from './table.js'
import { runInterruptible, type WorkContext } from './work.js'

const EXAMPLES = `
Examples:
  cambium train --model clip-vit-base-patch16 --data photos --out runs/photos
  cambium train --model clip-vit-base-patch16 --data photos/train --val photos/val --out runs/photos \\
    --test photos=photos/test --ood sketches=sketches/test --templates 'a photo of a {}.'
  cambium train --model clip-vit-base-patch16 --data photos --out runs/few --shots 16 --rank 4 --epochs 50
  cambium train --model clip-vit-base-patch16 --data captions.jsonl --out runs/captions --captions flickr=flickr/test.jsonl
  cambium train --model clip-vit-base-patch16 --data photos --out runs/lora --method lora --rank 8 --targets q_proj,v_proj
  cambium train --config run.yaml --resume

DATA is a folder with a folder of images for each class, or a .csv or .jsonl table with columns image and caption or label.
A file classes.json in it or beside it, {"classes": {folder: name}, "templates": [...]}, names classes and prompts.
OUT receives checkpoints, adapter/ (or fine-tuned/), merged/ (an ordinary CLIP), report.html and report.json, the log
(events.jsonl, and the same for TensorBoard) and predictions.jsonl.`

export function trainCommand(exit: (code: number) => void): Command {
  const command = new Command('train')
    .description('Fine-tune a CLIP on your images; writes an adapter, a merged checkpoint and a comparison with the model as it was')
    .option('--model <dir>', 'pretrained CLIP: config.json, safetensors, tokenizer')
    .option('--data <path>', 'image folder, .csv or .jsonl')
    .option('--out <dir>', 'folder for everything that is written')
    .option('--config <file>', 'YAML file with any of these settings; flags win')
    .option('--resume', 'go on from the last checkpoint in OUT, to the same bits')
    .option(
      '--method <name>',
      'r-adapter, lora (an adapter of PEFT), full (every weight, same objective) or flyp (every weight, InfoNCE) (default: r-adapter)',
    )
    .option('--epochs <n>', 'passes over the images (default: 10)', numeric)
    .option('--batch <n>', 'images of one optimizer step (default: 64, or all where there are fewer)', numeric)
    .option('--accumulate <k>', 'cut each batch into k parts to save memory; the result is the same', numeric)
    .option('--activation-checkpointing', 'keep only the inputs of blocks for backward and run them again: less memory, more time')
    .option('--lr <rate>', 'peak learning rate (default: 5e-4; lora: 2e-4; full and flyp: 1e-5)', numeric)
    .option('--min-lr <rate>', 'floor of the cosine (default: 1e-6)', numeric)
    .option('--warmup <steps>', 'steps of linear warm-up (default: a tenth of the run, at most 500)', numeric)
    .option('--weight-decay <rate>', 'decoupled decay of matrices (default: 0; lora: 0.01; full and flyp: 0.1)', numeric)
    .option('--clip-norm <norm>', 'largest global norm of the gradients, 0: no limit (default: 1)', numeric)
    .option('--rank <r>', 'adapters of rank r (default: full rank; 4 is for few shots; lora: 8)', numeric)
    .option('--drop <p>', 'probability of dropping an adapter in a step (default: 0.2)', numeric)
    .option('--drop-by <what>', 'adapter (paper) or token (the authors’ code) (default: adapter)')
    .option('--scale <s>', 'learnable scale of each adapter, from s on (the authors’ code: 0.1; default: none)', numeric)
    .option('--lora-alpha <a>', 'LoRA: scales by a / rank (default: 8)', numeric)
    .option('--targets <list>', 'LoRA: q_proj,k_proj,v_proj,out_proj,fc1,fc2, all-linear, or a pattern (default: q_proj,v_proj)')
    .option('--exclude <list>', 'LoRA: linears left out of the targets')
    .option('--tower <name>', 'LoRA: vision or text alone')
    .option('--layers <list>', 'LoRA: blocks, such as 0,1,11 (default: all)', numbers)
    .option('--rslora', 'LoRA: scale by a / √rank')
    .option('--dora', 'LoRA: train the magnitude of every row of the weights too')
    .option('--lora-bias', 'LoRA: a bias in the low-rank path')
    .option('--lora-dropout <p>', 'LoRA: probability of dropping an input of the low-rank path (default: 0)', numeric)
    .option('--init <name>', 'LoRA: kaiming, gaussian, pissa or olora (default: kaiming)')
    .option('--ema <momentum>', 'momentum of the average of the adapters (default: by length of the run)', numeric)
    .option('--no-ema', 'keep no average')
    .option('--margin <m>', 'MPM-NCE: added to the cosine of negatives (default: 0.05)', numeric)
    .option('--epsilon <e>', 'MPM-NCE: target mass of the negatives (default: 0.02; with captions 0)', numeric)
    .option('--tau <t>', 'MPM-NCE: temperature (default: 0.01)', numeric)
    .option(
      '--alpha <a>',
      'scale of the adapter in the merged model (default: chosen on validation; without 0.5, with captions 0.8, LoRA 1)',
      numeric,
    )
    .option('--alphas <list>', 'what is tried on validation, such as 0,0.5,1 (default: 0 to 1 by 0.1)', numbers)
    .option('--curve <list>', 'α at which every set is measured for the report (default: 0,0.25,0.5,0.75,1)', numbers)
    .option('--no-curve', 'measure at 0, alpha and 1 alone')
    .option('--baselines <methods>', 'train these too on the same data, with their own defaults, and compare: full, flyp or both')
    .option('--no-report', 'write no report.html')
    .option('--val <path>', 'validation set; it chooses alpha')
    .option('--val-fraction <share>', 'share of DATA set apart for it otherwise (default: 0.1; 0: none)', numeric)
    .option('--test <name=path>', 'test set, chooses nothing; repeatable', repeated)
    .option('--ood <name=path>', 'out-of-distribution set, chooses nothing; repeatable', repeated)
    .option('--captions <name=path>', 'captioned set, for retrieval; repeatable', repeated)
    .option('--shots <k>', 'train on k images of each class', numeric)
    .option('--seed <n>', 'of every random draw (default: 0)', numeric)
    .option('--save-dtype <type>', 'of the merged checkpoint: file, f32, bf16 or f16 (default: file, that of the original)')
    .option('--memory-budget <size>', 'refuse a run that is estimated to need more, such as 8GB (default: what is free)')
    .option('--checkpoint-every <steps>', 'steps between checkpoints (default: one an epoch)', numeric)
    .option('--no-dedupe', 'encode equal prompts of a batch again and again (same result)')
    .option('--no-cut', 'encode prompts padded to the full context (same result)')
  return addOutputFlags(addImageFlags(command))
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(givenFlags(command))))
}

async function run(flags: Record<string, unknown>): Promise<number> {
  const settings = await readSettings(trainSettings, flags)
  const { json, quiet, threads, tau, val, valFraction, test, templates, classNames, memoryBudget, ...others } = settings
  const { baselines = [], report: wanted = true, ...training } = others
  const { lora, rest } = loraSettings(training)
  const work = async ({ signal, progress }: WorkContext) => {
    const { fineTune } = await import('../train/fine-tune.js')
    const names = await readNames(classNames)
    const options: FineTuneOptions = {
      ...rest,
      lora,
      temperature: tau,
      validation: val,
      validationShare: valFraction,
      tests: test,
      classNames: names.classNames,
      templates: (await readTemplates(templates)) ?? names.templates,
      memoryBudget: memoryBudget as number | undefined,
      signal,
      onEvent: (event) => tell(progress, event),
    }
    const trained = await fineTune(options)
    const runs = [trained, ...(trained.done ? await runBaselines(options, baselines, progress) : [])]
    const written = wanted && runs.every(({ done }) => done) ? await reportOf(options.out) : {}
    const report = { ...trained, files: { ...trained.files, ...written } }
    progress.stop()
    process.stdout.write(`${json ? JSON.stringify(report) : describe(report)}\n`)
    const unfinished = runs.find(({ done }) => !done)
    return unfinished ? stopped(unfinished.steps) : 0
  }
  return runInterruptible({ quiet, threads }, work, stopped)
}

/** Other methods on the same data with their own defaults, in folders of their own; ends at one that is stopped. */
async function runBaselines(options: FineTuneOptions, methods: readonly Baseline[], progress: Progress): Promise<FineTuneReport[]> {
  const { fineTune } = await import('../train/fine-tune.js')
  const own = {
    lr: undefined,
    minLr: undefined,
    weightDecay: undefined,
    ema: undefined,
    alpha: undefined,
    drop: undefined,
    rank: undefined,
  }
  const reports: FineTuneReport[] = []
  for (const method of methods) {
    progress.say(`baseline ${method}`)
    const report = await fineTune({ ...options, ...own, method, out: join(options.out, 'baselines', method) })
    reports.push(report)
    if (!report.done) break
  }
  return reports
}

async function reportOf(out: string): Promise<{ report: string }> {
  const { writeReport } = await import('../report/write-report.js')
  return { report: (await writeReport(out)).file }
}

function stopped(step?: number): number {
  const words = process.argv.slice(2).map((word) => (/^[\w./=:,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`))
  const command = `cambium ${words.join(' ')}${words.includes('--resume') ? '' : ' --resume'}`
  process.stderr.write(`stopped${step === undefined ? '' : ` after step ${step}`}; go on with: ${command}\n`)
  return INTERRUPTED
}

function tell(progress: Progress, event: FineTuneEvent): void {
  if (event.type === 'plan') {
    const { estimate, images, validation, seconds } = event
    const held = validation === 0 ? '' : `, ${validation} for validation`
    progress.say(
      `${images} images${held}; training ${(estimate.trainable / 1e6).toPrecision(3)} M of ${(estimate.parameters / 1e6).toPrecision(3)} M ` +
        `parameters; about ${formatBytes(estimate.memory.total)} and ${formatSeconds(seconds)}`,
    )
  } else if (event.type === 'start') {
    const average = event.momentum === undefined ? '' : `, average with momentum ${event.momentum}`
    progress.say(`${event.from === 0 ? '' : `from step ${event.from}, `}${event.steps} steps${average}`)
    if (event.warning) progress.say(`warning: ${event.warning}`)
  } else if (event.type === 'step') {
    const note = `loss ${event.loss.toFixed(3)} lr ${event.lr.toExponential(1)} ${event.imagesPerSecond.toPrecision(3)} img/s`
    progress.show('train', event.step, event.steps, note)
  } else if (event.type === 'plain') progress.say(`warning: steps are not replayed as graphs: ${event.reason}`)
  else if (event.type === 'evaluate') progress.show(`${event.set} α ${event.alpha} ${event.what}`, event.done, event.total)
  else if (event.type === 'alpha' && event.choice)
    progress.say(`alpha ${event.alpha}, chosen on validation (${(100 * event.choice.score).toFixed(1)} %)`)
}

function describe(report: FineTuneReport): string {
  const lines: string[] = []
  if (report.results.length > 0) lines.push(resultsTable(report.results), '')
  lines.push(`${report.steps} steps in ${report.seconds.toFixed(1)} s, peak memory ${formatBytes(report.peakBytes)}`)
  if (report.skipped > 0) lines.push(`${report.skipped} broken images left out`)
  if (report.alpha) lines.push(`alpha ${report.alpha.value} (${report.alpha.by})`)
  if (report.alpha?.by === 'validation' && report.alpha.value === 0)
    lines.push('warning: validation likes no alpha above 0 better, so the merged model is the model as it was')
  for (const [what, folder] of Object.entries(report.files)) lines.push(`${what}: ${folder}`)
  return lines.join('\n')
}
