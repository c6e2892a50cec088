/** What the commands share: how flags are read and how a command runs. */
import type { Command } from 'commander'

/** A number, or the text that is none: the check of all settings tells it. */
export function numeric(text: string): number | string {
  const value = Number(text)
  return text.trim() === '' || !Number.isFinite(value) ? text : value
}

export const numbers = (text: string): (number | string)[] => text.split(',').map(numeric)

export const repeated = (text: string, before: string[] | undefined): string[] => [...(before ?? []), text]

/** The flags that were given, but for --device, which is chosen before a command runs (program.ts); a default (`--no-x` not given) must not win over a config file. */
export function givenFlags(command: Command): Record<string, unknown> {
  const all = Object.entries(command.opts<Record<string, unknown>>())
  return Object.fromEntries(all.filter(([key]) => key !== 'device' && command.getOptionValueSource(key) !== 'default'))
}

/** Flags that every command has. */
export function addOutputFlags(command: Command): Command {
  return command
    .option('--threads <n>', 'threads of the core; results do not depend on it (default: one a physical core)', numeric)
    .option('--json', 'print one JSON object on stdout, everything else on stderr')
    .option('--quiet', 'no progress')
}

/** Of commands that compute with tensors; program.ts reads it. */
export const DEVICE_FLAG = ['--device <name>', 'cpu, cuda, or auto: cuda where a GPU will do (default: CAMBIUM_DEVICE, or cpu)'] as const

/** Flags of commands that read images. */
export function addImageFlags(command: Command): Command {
  return command
    .option('--templates <text|file>', 'prompt with {} for the class, or a file of them (JSON, or one a line); repeatable', repeated)
    .option('--class-names <file>', 'names of the classes: JSON list, {folder: name}, or one a line (default: the folders)')
    .option(...DEVICE_FLAG)
    .option('--dtype <type>', 'operands of products: f32 or bf16 (default: bf16 where the processor multiplies it)')
    .option('--image-size <n>', 'side of the images, position embeddings are interpolated (default: the model’s)', numeric)
    .option('--skip-broken', 'count and skip images that cannot be decoded instead of stopping')
    .option('--exif', 'turn images as their EXIF orientation says')
}
