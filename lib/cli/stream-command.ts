/** What `classify` and `embed` share: their flags, and the run from inputs to lines of results. */
import process from 'node:process'
import type { Command } from 'commander'
import { z } from 'zod'
import type { CambiumError } from '../errors.js'
import type { OpenModel } from '../train/open-model.js'
import { addOutputFlags, DEVICE_FLAG, numeric } from './flags.js'
import { type Input, readInputs } from './input-lines.js'
import { ResultLines } from './result-lines.js'
import { common } from './settings.js'
import { runInterruptible } from './work.js'

const { model, dtype, imageSize, threads, exif, json, quiet } = common
export const streamSettings = {
  ...{ model, dtype, imageSize, threads, exif, json, quiet },
  adapter: z.string().optional(),
  alpha: z.number().min(0).max(2).optional(),
  batch: z.number().int().positive().optional(),
  out: z.string().optional(),
  strict: z.boolean().optional(),
}
type Settings = z.infer<z.ZodObject<typeof streamSettings>>

export function addStreamFlags(command: Command): Command {
  command
    .option('--model <dir>', 'CLIP: pretrained, fine-tuned or merged')
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

/** Results of some inputs, in their order. */
export type Work = (model: OpenModel, inputs: AsyncIterable<Input>, signal: AbortSignal) => AsyncIterable<readonly Outcome[]>

/** Runs inputs through a model; resolves to the exit code, 1 where none of them could be read. With `strict` the first broken input is thrown. */
export async function runStream(settings: Settings, names: readonly string[], texts: boolean, work: Work): Promise<number> {
  const { json = false, quiet = false, threads, strict = false, out, adapter, alpha, ...clipOptions } = settings
  const silent = quiet || (out === undefined && process.stdout.isTTY === true)
  return runInterruptible({ quiet: silent, threads }, async ({ signal, progress }) => {
    const { openModel } = await import('../train/open-model.js')
    const { model: folder, dtype, imageSize } = clipOptions
    const model = await openModel({ model: folder, adapter, alpha, dtype, imageSize })
    try {
      const lines = new ResultLines(out, json)
      const counted = { inputs: 0, broken: 0 }
      const began = performance.now()
      for await (const outcomes of work(model, readInputs(names, texts), signal)) {
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
      const about = { model: folder, ...(adapter === undefined ? {} : { adapter, alpha: model.alpha }), dtype: model.clip.dtype }
      await lines.end({ ...about, ...counted, seconds: Number(seconds.toFixed(3)) })
      if (counted.broken > 0 && !quiet) process.stderr.write(`${counted.broken} of ${counted.inputs} inputs could not be read\n`)
      return counted.broken > 0 && counted.broken === counted.inputs ? 1 : 0
    } finally {
      await model.dispose()
    }
  })
}
