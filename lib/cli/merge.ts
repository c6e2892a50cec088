/** `cambium merge`. */
import process from 'node:process'
import { Command } from 'commander'
import { addOutputFlags, givenFlags, numeric } from './flags.js'
import { INTERRUPTED, onInterrupt } from './interrupt.js'
import { createProgress } from './progress.js'
import { mergeSettings, readSettings } from './settings.js'

const EXAMPLES = `
Examples:
  cambium merge --model clip-vit-base-patch16 --adapter runs/photos/adapter --out photos-clip
  cambium merge --model clip-vit-base-patch16 --adapter runs/photos/adapter --alpha 0.5 --dtype f32 --out photos-clip

The result is an ordinary CLIP folder of the same size and speed. Alpha 0 gives back the original bytes.`

export function mergeCommand(exit: (code: number) => void): Command {
  const command = new Command('merge')
    .description('Fold an adapter into the weights: an ordinary checkpoint that any other tool loads')
    .option('--model <dir>', 'the CLIP that the adapter was trained on')
    .option('--adapter <dir>', 'adapter, as `cambium train` wrote it')
    .option('--alpha <a>', 'from 0, the model as it was, to 1, the adapter in full (default: the one saved with it)', numeric)
    .option('--out <dir>', 'folder for the merged model')
    .option('--dtype <type>', 'of the file: file (as the original), f32, bf16 or f16 (default: file)')
    .option('--config <file>', 'YAML file with any of these settings; flags win')
  return addOutputFlags(command)
    .addHelpText('after', EXAMPLES)
    .action(async () => exit(await run(givenFlags(command))))
}

async function run(flags: Record<string, unknown>): Promise<number> {
  const { json = false, quiet = false, threads, ...options } = await readSettings(mergeSettings, flags)
  const progress = createProgress(quiet)
  const interrupt = onInterrupt(() => {})
  try {
    const { mergeFolder } = await import('../checkpoint/merge-folder.js')
    if (threads !== undefined) (await import('../native.js')).native.setThreads(threads)
    const onProgress = (done: number, total: number) => progress.show('merge', done, total)
    const result = await mergeFolder({ ...options, signal: interrupt.signal, onProgress })
    progress.stop()
    process.stdout.write(json ? `${JSON.stringify(result)}\n` : `merged with alpha ${result.alpha}: ${result.out}\n`)
    return 0
  } catch (error) {
    if (!interrupt.signal.aborted) throw error
    return INTERRUPTED
  } finally {
    progress.stop()
    interrupt.dispose()
  }
}
