/** `cambium embed`. */
import { Command } from 'commander'
import { z } from 'zod'
import { givenFlags } from './flags.js'
import { readSettings } from './settings.js'
import { addStreamFlags, chosenOf, openPlain, openRun, runStream, streamSettings } from './stream-command.js'

const EXAMPLES = `
Examples:
  cambium embed --model clip-vit-base-patch16 photos > photos.jsonl
  cambium embed --model clip-vit-base-patch16 --text 'a photo of a cat' 'a photo of a dog'
  find / -name '*.jpg' | cambium embed --model clip-vit-base-patch16 --out all.jsonl
  cambium embed --model clip-vit-base-patch16 --adapter runs/photos/adapter 'photos/**/*.png'
  cambium embed --learned runs/learn/diki/seed-0 photos

Inputs are images, folders and patterns (* ? **), or lines of standard input: paths, texts with --text, or JSON objects with
"image" or "text" and any "id". Each gives one line, {"image": …, "embedding": […]}, in their order; one that cannot be read
gives {"image": …, "error": {…}} and is counted. Memory does not grow with their number. With --learned a line also has the "task" and
the "weight" that were chosen for the image, where the method chooses.`

const settings = z.strictObject({ ...streamSettings, text: z.boolean().optional(), normalize: z.boolean().optional() })

export function embedCommand(exit: (code: number) => void): Command {
  const command = new Command('embed')
    .description('Features of images or texts, as JSON Lines')
    .argument('[inputs...]', 'images, folders, patterns, or texts with --text (default: lines of standard input)')
    .option('--text', 'inputs and plain lines are texts')
    .option('--no-normalize', 'features as the projection gives them (default: of length 1)')
  return addStreamFlags(command)
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(command.args, givenFlags(command))))
}

async function run(names: readonly string[], flags: Record<string, unknown>): Promise<number> {
  const { text = false, normalize, ...rest } = await readSettings(settings, flags)
  const { batch, exif } = rest
  const byRun = () =>
    openRun(rest, async function* (learned, inputs, signal) {
      const { encodeLearned } = await import('../continual/ask-learned.js')
      for await (const encoded of encodeLearned(learned, inputs, { batch, exif, normalize, signal }))
        yield encoded.map(({ item, feature, error, ...rest }) => {
          return { item, error, result: { ...chosenOf(rest), embedding: numbersOf(feature) } }
        })
    })
  const byModel = () =>
    openPlain(rest, async function* ({ clip, injection }, inputs, signal) {
      const { encodeStream } = await import('../train/feature-stream.js')
      for await (const encoded of encodeStream(clip, inputs, { batch, exif, injection, normalize, signal }))
        yield encoded.map(({ item, feature, error }) => ({ item, error, result: { embedding: numbersOf(feature) } }))
    })
  return runStream(rest, names, text, rest.learned === undefined ? byModel : byRun)
}

/** Nine digits give back every f32; JavaScript would write the seventeen of the double that it becomes. */
function numbersOf(feature: Float32Array | undefined): number[] {
  return Array.from(feature ?? [], (value) => Number(value.toPrecision(9)))
}
