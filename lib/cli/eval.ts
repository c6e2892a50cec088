/** `cambium eval`. */
import { Command } from 'commander'
import type { ModelEvaluation } from '../train/evaluate-model.js'
import { addImageFlags, addOutputFlags, givenFlags, numbers, numeric, repeated } from './flags.js'
import { evalSettings, readNames, readSettings, readTemplates, UsageError } from './settings.js'
import { resultsTable } from './table.js'
import { runWork } from './work.js'

const EXAMPLES = `
Examples:
  cambium eval --model clip-vit-base-patch16 --data photos=photos/test --ood sketches=sketches/test
  cambium eval --model clip-vit-base-patch16 --adapter runs/photos/adapter --alpha 0.5 --data photos=photos/test
  cambium eval --model clip-vit-base-patch16 --adapter runs/photos/adapter --alpha sweep --data photos=photos/test
  cambium eval --model runs/photos/merged --captions flickr=flickr8k/test.jsonl --json
  cambium eval --protocol few-shot --config few-shot.yaml --out runs/few-shot

Sets with classes are classified zero-shot, each class by the mean of its prompts; captioned sets are retrieved both ways.
A sweep shows every alpha and chooses none: test sets choose nothing. --val names a set that does.
A protocol trains the methods of its config on its datasets with several seeds, and prints the papers' tables; stopped, it goes on.`

const alphaOf = (text: string): number | string => (text === 'sweep' ? text : numeric(text))

export function evalCommand(exit: (code: number) => void): Command {
  const command = new Command('eval')
    .description('Evaluate a CLIP, or a CLIP with an adapter, on any number of sets')
    .option('--model <dir>', 'CLIP: pretrained, fine-tuned or merged')
    .option('--adapter <dir>', 'adapter that was trained on it')
    .option('--alpha <a|sweep>', 'scale of the adapter (default: the one saved with it)', alphaOf)
    .option('--alphas <list>', 'the alpha of a sweep or of the choice (default: 0 to 1 by 0.1)', numbers)
    .option('--val <path>', 'validation set that chooses alpha')
    .option('--data <name=path>', 'image folder or table; repeatable', repeated)
    .option('--ood <name=path>', 'the same, listed after the others; repeatable', repeated)
    .option('--captions <name=path>', 'captioned set, for retrieval; repeatable', repeated)
    .option('--batch <n>', 'images at once, changes no result (default: 64)', numeric)
    .option('--protocol <name>', 'few-shot, base-to-novel, cross-dataset or retrieval; datasets and methods stand in the config')
    .option('--out <dir>', 'folder for the results of a protocol')
    .option('--config <file>', 'YAML file with any of these settings; flags win')
  return addOutputFlags(addImageFlags(command))
    .addHelpText('after', EXAMPLES)
    .action(async () => {
      const flags = givenFlags(command)
      exit(await (flags.protocol === undefined ? run(flags) : (await import('./protocol.js')).runProtocolCommand(flags)))
    })
}

async function run(flags: Record<string, unknown>): Promise<number> {
  const settings = await readSettings(evalSettings, flags, 'expected it with --protocol, got it alone')
  const { json, quiet, threads, data = [], ood = [], val, templates, classNames, ...rest } = settings
  if (data.length + ood.length + (rest.captions ?? []).length === 0)
    throw new UsageError('--data: expected a set to evaluate on (or --ood, --captions), got none')
  const work: Parameters<typeof runWork<ModelEvaluation>>[1] = async ({ signal, progress }) => {
    const { evaluateModel } = await import('../train/evaluate-model.js')
    const names = await readNames(classNames)
    return evaluateModel({
      ...rest,
      validation: val,
      sets: [...data, ...ood],
      classNames: names.classNames,
      templates: (await readTemplates(templates)) ?? names.templates,
      signal,
      onProgress: ({ set, what, done, total, alpha }) =>
        progress.show(`${set}${alpha === undefined ? '' : ` α ${alpha}`} ${what}`, done, total),
    })
  }
  return runWork({ json, quiet, threads }, work, describe)
}

function describe({ results, chosen }: ModelEvaluation): string {
  const choice = chosen ? [`alpha ${chosen.alpha}, chosen on validation (${(100 * chosen.score).toFixed(1)} %)`] : []
  return [resultsTable(results), ...skippedLines(results), ...choice].join('\n')
}

function skippedLines(results: ModelEvaluation['results']): string[] {
  return Object.entries(results[0].evaluation)
    .filter(([, { skipped }]) => skipped > 0)
    .map(([set, { skipped }]) => `${set}: ${skipped} broken images left out`)
}
