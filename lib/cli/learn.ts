/** `cambium learn`: a stream of tasks, one after the other, without the earlier data. */
import process from 'node:process'
import { Command } from 'commander'
import type { LearnReport } from '../continual/learn-report.js'
import type { RunLearnEvent, RunSettings } from '../continual/run-learn.js'
import { formatBytes } from '../train/estimate.js'
import { addOutputFlags, DEVICE_FLAG, givenFlags, numbers, numeric } from './flags.js'
import { INTERRUPTED } from './interrupt.js'
import { type LearnSettings, learnSettings, methodsOf } from './learn-settings.js'
import { learnTable } from './learn-table.js'
import { formatSeconds, type Progress } from './progress.js'
import { readSettings, UsageError } from './settings.js'
import { runWork } from './work.js'

const EXAMPLES = `
Examples:
  cambium learn --config tasks.yaml --model clip-vit-base-patch16 --out runs/learn
  cambium learn --config tasks.yaml --model clip-vit-base-patch16 --out runs/compare --methods diki,zscl,sequential,zero-shot --seeds 0,1,2
  cambium learn --continue runs/learn --config tomorrow.yaml

The config lists tasks, each with a training set, a test set and what chooses (docs/continual.md):
  tasks:
    - {name: signs, train: signs/train, test: signs/test}
    - {name: textures, train: textures.csv, test: 0.2, templates: ['a photo of {} texture.']}
  watch: [{name: imagenet, test: imagenet/val}]
  methods: {diki: {method: diki, lr: [1, 5]}, sequential: {method: sequential}}
Stopped or killed, the same command goes on to the same bits. OUT receives learn.json, the state and report.html; where the
config lists methods, or there are several, each run has OUT/<method>/seed-<s>/.`

const listOf = (text: string): string[] => text.split(',')

export function learnCommand(exit: (code: number) => void): Command {
  const command = new Command('learn')
    .description('Teach a CLIP one task after another without forgetting: DIKI, and what it is compared with')
    .option('--config <file>', 'YAML file with the tasks and any of these settings; flags win')
    .option('--model <dir>', 'pretrained CLIP: config.json, safetensors, tokenizer')
    .option('--out <dir>', 'folder of the run; one that was stopped goes on')
    .option('--continue <dir>', 'a finished run that takes the tasks of the config without the earlier data')
    .option('--method <name>', 'a method by its name, or by its label in the config (default: those of the config, else diki)')
    .option('--methods <list>', 'several of them')
    .option('--seeds <list>', 'of every random draw (default: 0)', numbers)
    .option('--epochs <n>', 'passes over each task, whatever the method says', numeric)
    .option('--batch <n>', 'images of one optimizer step, at most those of a task', numeric)
    .option('--accumulate <k>', 'cut each batch into k parts to save memory; the result is the same', numeric)
    .option('--checkpoint-every <steps>', 'steps between checkpoints within a task (default: one an epoch)', numeric)
    .option('--no-checkpoint-every', 'none within a task: one that is killed begins anew')
    .option('--evaluation-batch <n>', 'images at once in evaluation, changes no result (default: 64)', numeric)
    .option('--save-model', 'write OUT/model, an ordinary CLIP, where what was learned is plain weights (not diki, prefix)')
    .option('--memory-budget <size>', 'refuse a task that is estimated to need more, such as 8GB (default: what is free)')
    .option('--no-report', 'write no report.html')
    .option(...DEVICE_FLAG)
    .option('--dtype <type>', 'operands of products: f32 or bf16 (default: bf16 where the processor multiplies it)')
    .option('--image-size <n>', 'side of the images, position embeddings are interpolated (default: the model’s)', numeric)
    .option('--skip-broken', 'count and skip images that cannot be decoded instead of stopping')
    .option('--exif', 'turn images as their EXIF orientation says')
  return addOutputFlags(command)
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(givenFlags(command))))
}

/** What the command prints with --json. */
interface LearnResult {
  readonly out: string
  readonly runs: readonly LearnReport[]
  readonly report?: string
}

async function run({ method, methods, ...flags }: Record<string, unknown>): Promise<number> {
  if (flags.config === undefined) throw new UsageError('--config: expected a file with the tasks, got none')
  if (method !== undefined && methods !== undefined) throw new UsageError('--method: expected it without --methods, got both')
  if (method === '' || methods === '')
    throw new UsageError(`--${method === '' ? 'method' : 'methods'}: expected the name of a method, got ""`)
  const only = method === undefined ? (methods === undefined ? undefined : listOf(String(methods))) : [method]
  const settings = await readSettings(learnSettings, only ? { ...flags, only } : flags)
  const { json, quiet, threads, report: wanted = true } = settings
  const out = placeOf(settings)
  const code = await runWork<LearnResult>(
    { json, quiet, threads },
    async ({ signal, progress }) => {
      const runs = await learnAll(settings, out, { signal, onEvent: (event) => tell(progress, event) })
      if (!runs) signal.throwIfAborted()
      const done = runs ?? []
      const report = wanted ? await (await import('../report/learn-report-page.js')).writeLearnReport(out, done) : undefined
      return { out, runs: done, ...(report ? { report } : {}) }
    },
    ({ runs, report }) => [learnTable(runs), ...(report ? [report] : [])].join('\n'),
  )
  if (code === INTERRUPTED) process.stderr.write('stopped; what is finished is kept, the same command goes on\n')
  return code
}

function placeOf({ out, continue: before, model, methods, only, seeds, epochs, batch, accumulate }: LearnSettings): string {
  if (before === undefined) {
    if (out === undefined) throw new UsageError('--out: expected a value, got none')
    if (model === undefined) throw new UsageError('--model: expected a value, got none')
    return out
  }
  if (out !== undefined) throw new UsageError('--out: expected it without --continue, got both')
  if (seeds !== undefined) throw new UsageError('--seeds: expected those of the run that is continued, got others')
  if ((methods ?? only) !== undefined) throw new UsageError('--methods: expected the method of the run that is continued, got others')
  if ((epochs ?? batch ?? accumulate) !== undefined)
    throw new UsageError('--epochs, --batch, --accumulate: expected those of the run that is continued, got others')
  return before
}

async function learnAll(
  settings: LearnSettings,
  out: string,
  rest: Pick<RunSettings, 'signal' | 'onEvent'>,
): Promise<LearnReport[] | undefined> {
  const { protocol, tasks, watch, base, increment, order, splitSeed, templates, model, seeds } = settings
  const { epochs, batch, accumulate, checkpointEvery, evaluationBatch, skipBroken, exif, dtype, imageSize, saveModel, memoryBudget } =
    settings
  const stream = { protocol, tasks, watch, base, increment, order, splitSeed, templates }
  const shared: RunSettings = {
    checkpointEvery,
    evaluationBatch,
    skipBroken,
    exif,
    dtype,
    imageSize,
    saveModel,
    memoryBudget: memoryBudget as number | undefined,
    ...rest,
  }
  if (settings.continue !== undefined) {
    const { continueLearn } = await import('../continual/continue-learn.js')
    return continueLearn({ ...shared, model, out, stream })
  }
  const { runLearn } = await import('../continual/run-learn.js')
  const { LEARNER_NAMES } = await import('../continual/learners/registry.js')
  return runLearn({
    ...shared,
    model: model as string,
    out,
    stream,
    methods: methodsOf(settings, LEARNER_NAMES),
    over: { epochs, batch, accumulate },
    seeds,
    apart: settings.methods !== undefined,
  })
}

function tell(progress: Progress, event: RunLearnEvent): void {
  if (event.type === 'run') progress.say(`run ${event.run} of ${event.runs}: ${event.label}, seed ${event.seed}`)
  else if (event.type === 'note') progress.say(event.text)
  else if (event.type === 'chosen') progress.say(`${event.label}: ${JSON.stringify(event.choice.settings)}, chosen on validation`)
  else if (event.type === 'start' && event.warning) progress.say(`warning: ${event.warning}`)
  else if (event.type === 'plain') progress.say(`warning: steps are not replayed as graphs: ${event.reason}`)
  else if (event.type === 'task') progress.say(describeTask(event))
  else if (event.type === 'evaluate') progress.show(event.set, event.done, event.total)
  else if (event.type === 'prepare') progress.show(event.what, event.done, event.total)
  else if (event.type === 'step') progress.show(`task ${event.task + 1}`, event.step, event.steps, `loss ${event.loss.toFixed(3)}`)
}

function describeTask({ task, name, images, classes, steps, bytes, seconds }: Extract<RunLearnEvent, { type: 'task' }>): string {
  const cost = steps === 0 ? '' : `; ${steps} steps, about ${formatBytes(bytes)} and ${formatSeconds(seconds)}`
  return `task ${task + 1}, ${name}: ${images} images, ${classes} classes${cost}`
}
