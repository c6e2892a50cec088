/** `cambium classify`. */

import { Command } from 'commander'
import { z } from 'zod'
import { readClassFile } from '../data/open-dataset.js'
import { stat } from '../files.js'
import { givenFlags, numeric, repeated } from './flags.js'
import { common, readSettings, readTemplates, UsageError } from './settings.js'
import { type Answering, addStreamFlags, chosenOf, openPlain, openRun, runStream, streamSettings } from './stream-command.js'

const EXAMPLES = `
Examples:
  cambium classify --model clip-vit-base-patch16 --labels 'cat,dog,neither' photos
  cambium classify --model runs/photos/merged --labels classes.json --top 1 'new/*.jpg' --out new.jsonl
  find / -name '*.jpg' | cambium classify --model clip-vit-base-patch16 --labels cat,dog --templates 'a drawing of a {}.'
  cambium classify --learned runs/learn photos
  cambium classify --learned runs/learn --task textures photos

Inputs are images, folders and patterns (* ? **), or lines of standard input: paths, or JSON objects with "image" and any "id".
Each gives one line, {"image": …, "label": …, "top": [{"label": …, "probability": …}, …]}, in their order; one that cannot be
read gives {"image": …, "error": {…}} and is counted. Probabilities add up to one over the labels: the most likely of them, not
how sure it is that any of them is there. With --learned the labels are the classes of all tasks that were learned, those of
--task, or your own; a line also has the "task" and the "weight" that were chosen for the image, where the method chooses.`

const settings = z.strictObject({
  ...streamSettings,
  task: z.string().min(1).optional(),
  labels: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).optional(),
  templates: common.templates,
  top: z.number().int().positive().optional(),
})

export function classifyCommand(exit: (code: number) => void): Command {
  const command = new Command('classify')
    .description('The most likely of your labels for each image, zero-shot or with an adapter, as JSON Lines')
    .argument('[images...]', 'images, folders or patterns (default: lines of standard input)')
    .option('--labels <list|file>', 'labels with commas between them, or a file of them (JSON, or one a line)')
    .option('--task <name>', 'the classes of this task of the run; with --learned')
    .option('--templates <text|file>', 'prompt with {} for the label, or a file of them (default: a photo of a {}.); repeatable', repeated)
    .option('--top <k>', 'labels told of each image (default: 5)', numeric)
  return addStreamFlags(command)
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(command.args, givenFlags(command))))
}

type Settings = z.infer<typeof settings>

async function run(names: readonly string[], flags: Record<string, unknown>): Promise<number> {
  const asked = await readSettings(settings, flags)
  return runStream(asked, names, false, asked.learned === undefined ? await byModel(asked) : await byRun(asked))
}

async function byModel({ labels: given, templates: asked, top, task, ...rest }: Settings): Promise<() => Promise<Answering>> {
  if (given === undefined) throw new UsageError('--labels: expected a value, got none')
  if (task !== undefined) throw new UsageError('--task: expected it with --learned, got it alone')
  const { labels, templates: own } = await readLabels(given)
  const templates = (await readTemplates(asked)) ?? own
  const { batch, exif } = rest
  return () =>
    openPlain(rest, async function* ({ clip, injection }, inputs, signal) {
      const { classifyStream } = await import('../train/classify.js')
      for await (const classified of classifyStream(clip, inputs, labels, { batch, exif, injection, templates, top, signal }))
        yield classified.map(({ item, top: guesses, error }) => ({ item, error, result: { label: guesses?.[0].label, top: guesses } }))
    })
}

async function byRun({ labels: given, templates: asked, top, task, ...rest }: Settings): Promise<() => Promise<Answering>> {
  if (given !== undefined && task !== undefined) throw new UsageError('--task: expected it without --labels, got both')
  if (given === undefined && asked !== undefined)
    throw new UsageError('--templates: expected them with --labels, got them alone: classes of a run have their own')
  const own = given === undefined ? undefined : await readLabels(given)
  const templates = (await readTemplates(asked)) ?? own?.templates ?? []
  const { batch, exif } = rest
  return () =>
    openRun(rest, async function* (learned, inputs, signal) {
      const { classifyLearned, classesOf } = await import('../continual/ask-learned.js')
      const { promptsOf } = await import('../continual/learner-options.js')
      const classes = own ? promptsOf({ classNames: own.labels, templates }) : classesOf(learned, task)
      for await (const classified of classifyLearned(learned, inputs, { batch, exif, classes, top, signal }))
        yield classified.map(({ item, top: guesses, error, ...rest }) => {
          return { item, error, result: { label: guesses?.[0].label, ...chosenOf(rest), top: guesses } }
        })
    })
}

/** A file's names, with the templates that stand beside them; or the text cut at its commas. */
async function readLabels(given: string | readonly string[]): Promise<{ labels: readonly string[]; templates?: readonly string[] }> {
  if (typeof given !== 'string') return { labels: distinct(given) }
  if ((await stat(given).catch(() => undefined))?.isFile()) {
    const { classNames, templates } = await readClassFile(given)
    const labels = Array.isArray(classNames) ? classNames : Object.values(classNames ?? {})
    if (labels.length === 0) throw new UsageError(`--labels ${given}: expected a file with labels, got none in it`)
    return { labels: distinct(labels), templates }
  }
  if (/^[^,]+\.(json|txt)$/i.test(given)) throw new UsageError(`--labels ${given}: expected a file with labels, got no such file`)
  const labels = given.split(',').map((label) => label.trim())
  if (labels.some((label) => label === ''))
    throw new UsageError(`--labels: expected labels with commas between them, got ${JSON.stringify(given)}`)
  return { labels: distinct(labels) }
}

/** Labels given twice would share what belongs to one. */
function distinct(labels: readonly string[]): readonly string[] {
  const twice = labels.find((label, i) => labels.indexOf(label) !== i)
  if (twice !== undefined) throw new UsageError(`--labels: expected each label once, got ${JSON.stringify(twice)} twice`)
  return labels
}
