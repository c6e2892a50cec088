/** `cambium inspect`. */
import process from 'node:process'
import { Command } from 'commander'
import type { AdapterSummary, InspectedTensor, Inspection } from '../checkpoint/inspect.js'
import { formatTable } from './table.js'

const EXAMPLES = `
Examples:
  cambium inspect clip-vit-base-patch16
  cambium inspect runs/photos
  cambium inspect adapter_model.safetensors --tensors

Reads headers and configurations alone. Tensors that differ only in the number of their layer are one line, unless --tensors.`

export function inspectCommand(exit: (code: number) => void): Command {
  const command = new Command('inspect')
    .description('What a file or folder holds: tensors, sizes, layout, configuration, adapters')
    .argument('<path>', 'safetensors file, checkpoint, adapter (ours or PEFT’s), run folder or folder of runs')
    .option('--tensors', 'a line for every tensor')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (path: string) => {
      const { inspect } = await import('../checkpoint/inspect.js')
      const inspection = await inspect(path)
      const { json, tensors } = command.opts<{ json?: boolean; tensors?: boolean }>()
      process.stdout.write(`${json ? JSON.stringify(inspection) : describe(inspection, tensors === true)}\n`)
      exit(0)
    })
  return command
}

function describe(inspection: Inspection, all: boolean): string {
  const { path, kind, layout, files, totals, config, adapter, problem, metadata, inside, tensors, runs = [] } = inspection
  const lines: string[] = []
  if (totals.tensors > 0 || inside.length + runs.length === 0) {
    lines.push(
      `${path}: ${adapter ? 'adapter' : kind === 'checkpoint' ? 'checkpoint of a CLIP' : kind}${layout ? `, names of ${layout}` : ''}`,
    )
    lines.push(...files.map(({ name, bytes }) => `  ${name}, ${size(bytes)}`))
    const dtypes = Object.entries(totals.dtypes).map(([dtype, count]) => `${count} ${dtype}`)
    lines.push(`  ${totals.tensors} tensors (${dtypes.join(', ')}), ${millions(totals.elements)} elements, ${size(totals.bytes)}`)
    if (config) lines.push(...describeConfig(config))
    if (adapter) lines.push(...describeAdapter(adapter))
    const notes = Object.entries(metadata).map(([key, value]) => `${key} ${value.length > 60 ? `${value.slice(0, 57)}…` : value}`)
    if (notes.length > 0) lines.push(`  metadata: ${notes.join(', ')}`)
    if (problem) lines.push(`  cannot be used as it is: ${problem.message} (${problem.code})`)
    if (tensors.length > 0) lines.push('', table(tensors, all))
  } else lines.push(`${path}: a folder with`)
  if (runs.length > 0) lines.push(...describeRuns(runs))
  for (const each of inside) lines.push('', describe(each, all))
  return lines.join('\n')
}

function describeRuns(runs: NonNullable<Inspection['runs']>): string[] {
  return [
    `  ${runs.length === 1 ? 'a run' : `${runs.length} runs`} of learn:`,
    ...runs.map(({ folder, method, seed, tasks }) => {
      const named = `${method}${seed === undefined ? '' : `, seed ${seed}`}`
      return `  ${folder}: ${named}, ${tasks.length} task${tasks.length === 1 ? '' : 's'} (${tasks.join(', ')})`
    }),
  ]
}

function describeConfig({ vision, text, projectionDim }: NonNullable<Inspection['config']>): string[] {
  const tower = ({ numHiddenLayers, hiddenSize, numAttentionHeads }: typeof vision | typeof text) =>
    `${numHiddenLayers} layers of width ${hiddenSize}, ${numAttentionHeads} heads`
  return [
    `  vision: ${tower(vision)}, patches of ${vision.patchSize}, images of ${vision.imageSize}`,
    `  text: ${tower(text)}, ${text.maxPositionEmbeddings} tokens, ${text.vocabSize} words`,
    `  features of ${projectionDim}, ${vision.hiddenAct}`,
  ]
}

function describeAdapter({ method, by, rank, alpha, targets, replaces, base, options, warnings }: AdapterSummary): string[] {
  const facts = [
    ...(rank === undefined ? (method === 'r-adapter' ? ['full rank'] : []) : [`rank ${rank}`]),
    ...(alpha === undefined ? [] : [`alpha ${alpha}`]),
    ...(targets === undefined ? [] : [`${targets} modules`]),
    ...(replaces ? [`${replaces} tensors replaced`] : []),
  ]
  const rest = Object.entries(options).filter(
    ([, value]) => value !== null && value !== false && !(Array.isArray(value) && value.length === 0),
  )
  return [
    `  ${method}, as ${by === 'peft' ? 'PEFT' : 'Cambium'} writes it: ${facts.join(', ')}`,
    ...(rest.length === 0
      ? []
      : [`  ${rest.map(([key, value]) => `${key} ${Array.isArray(value) ? value.join(' ') : String(value)}`).join(', ')}`]),
    ...(base === undefined ? [] : [`  base: ${base}`]),
    ...warnings.map((warning) => `  warning: ${warning}`),
  ]
}

/** Numbers between dots stand for layers: those that differ in them alone are one line, `{0-11}`. */
function table(tensors: readonly InspectedTensor[], all: boolean): string {
  const groups = new Map<string, { first: InspectedTensor; layers: number[]; bytes: number; pattern: string; count: number }>()
  for (const tensor of tensors) {
    const layer = all ? undefined : /\.(\d+)\./.exec(tensor.name)?.[1]
    const pattern = layer === undefined ? tensor.name : tensor.name.replace(/\.\d+\./, '.{}.')
    const key = `${pattern} ${tensor.dtype} ${tensor.shape}`
    const group = groups.get(key) ?? { first: tensor, layers: [], bytes: 0, pattern, count: 0 }
    groups.set(key, group)
    if (layer !== undefined) group.layers.push(Number(layer))
    group.bytes += tensor.bytes
    group.count += 1
  }
  const rows = [...groups.values()].map(({ first, layers, bytes, pattern, count }) => [
    pattern.replace('{}', rangeOf(layers)),
    first.dtype,
    `[${first.shape.join(', ')}]`,
    count === 1 ? '' : `× ${count}`,
    size(bytes),
  ])
  return formatTable([['tensor', 'dtype', 'shape', '', 'size'], ...rows])
}

function rangeOf(layers: readonly number[]): string {
  const sorted = [...layers].sort((a, b) => a - b)
  if (sorted.length === 1) return String(sorted[0])
  const whole = sorted.at(-1)! - sorted[0] === sorted.length - 1
  return whole ? `{${sorted[0]}-${sorted.at(-1)}}` : `{${sorted.join(',')}}`
}

const millions = (count: number): string => (count < 1e6 ? String(count) : `${(count / 1e6).toFixed(1)} M`)

function size(bytes: number): string {
  const unit = bytes < 1e3 ? 0 : bytes < 1e6 ? 1 : bytes < 1e9 ? 2 : 3
  return `${unit === 0 ? bytes : (bytes / 1000 ** unit).toFixed(1)} ${['B', 'kB', 'MB', 'GB'][unit]}`
}
