/** What `classify` and `embed` share: their flags, and the run from inputs to lines of results. */
import process from 'node:process'
import type { Command } from 'commander'
import { z } from 'zod'
import type { Chosen } from '../continual/ask-learned.js'
import type { Learned } from '../continual/open-learned.js'
import type { CambiumError } from '../errors.js'
import type { OpenModel } from '../train/open-model.js'
import { addOutputFlags, DEVICE_FLAG, numeric } from './flags.js'
import { type Input, readInputs } from './input-lines.js'
import { ResultLines } from './result-lines.js'
import { common, path, UsageError } from './settings.js'
import { runInterruptible } from './work.js'

const { model, dtype, imageSize, threads, exif, json, quiet } = common
export const streamSettings = {
  ...{ model: model.optional(), dtype, imageSize, threads, exif, json, quiet },
  learned: path.optional(),
  adapter: path.optional(),
  alpha: z.number().min(0).max(2).optional(),
  batch: z.number().int().positive().optional(),
  out: path.optional(),
  strict: z.boolean().optional(),
}
type Settings = z.infer<z.ZodObject<typeof streamSettings>>

/** What answers, and what the summary of --json tells of it. */
export interface Answering {
  readonly about: object
  answer(inputs: AsyncIterable<Input>, signal: AbortSignal): AsyncIterable<readonly Outcome[]>
  dispose(): Promise<void>
}

export function addStreamFlags(command: Command): Command {
  command
    .option('--model <dir>', 'CLIP: pretrained, fine-tuned or merged')
    .option('--learned <dir>', 'run of `cambium learn` in place of a model; with --model: where its pretrained model is now')
    .option('--adapter <dir>', 'adapter that was trained on it')
    .option('--alpha <a>', 'scale of the adapter (default: the one saved with it)', numeric)
    .option('--out <file>', 'write the results there instead of on standard output')
    .option('--batch <n>', 'encoded at once, changes no result; 1 answers each line at once (default: 32)', numeric)
    .option('--strict', 'stop with exit code 1 at the first input that cannot be read')
    .option(...DEVICE_FLAG)
    .option('--dtype <type>', 'operands of products: f32 or bf16 (default: bf16 where the processor multiplies it)')
    .option('--image-size <n>', 'side of the images, position embeddings are interpolated (default: the model’s)', numeric)
    .option('--exif', 'turn images as their EXIF orientation says')
    .option('--config <file>', 'YAML file with any of these settings; flags win')
  return addOutputFlags(command)
}

/** A result, or why there is none. */
export type Outcome = { readonly item: Input; readonly error?: CambiumError; readonly result?: object }

/** Answers by a CLIP, as it is or with an adapter. @throws E_USAGE without a model; what opening throws */
export async function openPlain(
  { model, adapter, alpha, dtype, imageSize }: Settings,
  answer: (model: OpenModel, ...rest: Parameters<Answering['answer']>) => ReturnType<Answering['answer']>,
): Promise<Answering> {
  if (model === undefined) throw new UsageError('--model: expected a value, got none')
  const { openModel } = await import('../train/open-model.js')
  const opened = await openModel({ model, adapter, alpha, dtype, imageSize, keepPacked: true })
  return {
    about: { model, ...(adapter === undefined ? {} : { adapter, alpha: opened.alpha }), dtype: opened.clip.dtype },
    answer: (inputs, signal) => answer(opened, inputs, signal),
    dispose: () => opened.dispose(),
  }
}

/** Answers by what `cambium learn` has learned. @throws E_USAGE for flags that belong to a model; what opening throws */
export async function openRun(
  { learned: folder = '', model, adapter, alpha, dtype, imageSize }: Settings,
  answer: (learned: Learned, ...rest: Parameters<Answering['answer']>) => ReturnType<Answering['answer']>,
): Promise<Answering> {
  for (const [flag, value] of Object.entries({ adapter, alpha, 'image-size': imageSize }))
    if (value !== undefined) throw new UsageError(`--${flag}: expected it without --learned, got both`)
  const { openLearned } = await import('../continual/open-learned.js')
  const learned = await openLearned(folder, { model, dtype })
  const { clip, learner, tasks } = learned
  return {
    about: { learned: folder, model: clip.folder, method: learner.name, tasks: tasks.map(({ name }) => name), dtype: clip.dtype },
    answer: (inputs, signal) => answer(learned, inputs, signal),
    dispose: async () => learned.dispose(),
  }
}

/** Of methods that choose for each image; seven digits tell an f32 apart well enough. */
export function chosenOf({ task, weight }: Chosen): Chosen {
  return weight === undefined ? {} : { task, weight: Number(weight.toPrecision(7)) }
}

/** Runs inputs through what `open` opens; resolves to the exit code, 1 where none of them could be read. With `strict` the first broken input is thrown. */
export async function runStream(
  { json = false, quiet = false, threads, strict = false, out }: Settings,
  names: readonly string[],
  texts: boolean,
  open: () => Promise<Answering>,
): Promise<number> {
  const silent = quiet || (out === undefined && process.stdout.isTTY === true)
  return runInterruptible({ quiet: silent, threads }, async ({ signal, progress }) => {
    const answering = await open()
    try {
      const lines = new ResultLines(out, json)
      const counted = { inputs: 0, broken: 0 }
      const began = performance.now()
      for await (const outcomes of answering.answer(readInputs(names, texts), signal)) {
        for (const { item, error, result } of outcomes) {
          if (error !== undefined && strict) throw error
          counted.inputs += 1
          if (error !== undefined) counted.broken += 1
          await lines.write({ ...item.source, ...(error === undefined ? result : { error: { code: error.code, message: error.message } }) })
        }
        progress.show(`${counted.inputs} done`, counted.inputs, counted.inputs)
      }
      progress.stop()
      const seconds = (performance.now() - began) / 1000
      await lines.end({ ...answering.about, ...counted, seconds: Number(seconds.toFixed(3)) })
      if (counted.broken > 0 && !quiet) process.stderr.write(`${counted.broken} of ${counted.inputs} inputs could not be read\n`)
      return counted.broken > 0 && counted.broken === counted.inputs ? 1 : 0
    } finally {
      await answering.dispose()
    }
  })
}
