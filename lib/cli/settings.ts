/**
 * The settings of a command: flags, and a YAML file with the same names (`--config`), flags winning; checked as one by zod.
 * Everything wrong here is a mistake of use, E_USAGE, exit code 2.
 */
import { z } from 'zod'
import { didYouMean, type Problem, problemsOf } from '../checks/problems.js'
import { type ClassFile, readClassFile } from '../data/open-dataset.js'
import { CambiumError, messageOf } from '../errors.js'
import { stat } from '../files.js'
import { readYaml } from '../formats/yaml.js'
import type { NamedPath } from '../train/fine-tune-data.js'

export class UsageError extends CambiumError {
  constructor(message: string) {
    super('E_USAGE', message)
  }
}

const number = z.number()
export const path = z.string().min(1)
/** `photos=DIR`, or in YAML also `{photos: DIR}`; a bare path is named after its last part. */
export const named = z
  .union([
    z.array(z.string()),
    z.string().transform((one) => [one]),
    z.record(z.string(), z.string()).transform((map) => Object.entries(map).map(([name, path]) => `${name}=${path}`)),
  ])
  .transform((list) => list.map(parseNamed))
  .refine((list) => list.every((one) => one.path !== ''), { params: { expected: 'paths, such as photos=DIR' } })
const texts = z.union([
  z.array(z.string().min(1)),
  z
    .string()
    .min(1)
    .transform((one) => [one]),
])
const share = number.min(0).lt(1)
const alpha = number.min(0).max(2)

/** Methods that `train` can run beside the one asked for. */
const BASELINES = ['full', 'flyp'] as const
export type Baseline = (typeof BASELINES)[number]

export const common = {
  model: path,
  dtype: z.enum(['f32', 'bf16']).optional(),
  imageSize: number.int().positive().optional(),
  threads: number.int().positive().max(1024).optional(),
  templates: texts.optional(),
  classNames: path.optional(),
  skipBroken: z.boolean().optional(),
  exif: z.boolean().optional(),
  json: z.boolean().optional(),
  quiet: z.boolean().optional(),
}

export const trainSettings = z.strictObject({
  ...common,
  data: path,
  out: path,
  method: z.enum(['r-adapter', 'lora', 'full', 'flyp']).default('r-adapter'),
  epochs: number.int().positive().optional(),
  batch: number.int().positive().optional(),
  accumulate: number.int().positive().optional(),
  activationCheckpointing: z.boolean().optional(),
  lr: number.positive().optional(),
  warmup: number.int().min(0).optional(),
  minLr: number.min(0).optional(),
  weightDecay: number.min(0).optional(),
  clipNorm: number.min(0).optional(),
  rank: number.int().positive().optional(),
  drop: share.optional(),
  dropBy: z.enum(['adapter', 'token']).optional(),
  scale: number.optional(),
  loraAlpha: number.optional(),
  targets: texts.optional(),
  exclude: texts.optional(),
  tower: z.enum(['vision', 'text']).optional(),
  layers: z.array(number.int().min(0)).min(1).optional(),
  rslora: z.boolean().optional(),
  dora: z.boolean().optional(),
  loraBias: z.boolean().optional(),
  loraDropout: share.optional(),
  init: z.enum(['kaiming', 'gaussian', 'pissa', 'olora']).optional(),
  rankPattern: z.record(z.string(), number.int().positive()).optional(),
  alphaPattern: z.record(z.string(), number).optional(),
  ema: z.union([z.boolean(), number.min(0).max(1)]).optional(),
  margin: number.min(0).optional(),
  epsilon: share.optional(),
  tau: number.positive().optional(),
  alpha: alpha.optional(),
  alphas: z.array(alpha).min(1).optional(),
  curve: z.union([z.array(alpha).min(1), z.literal(false).transform((): number[] => [])]).optional(),
  baselines: z
    .union([z.array(z.string()), z.string().transform((text) => text.split(','))])
    .refine((list): list is Baseline[] => list.every((one) => BASELINES.some((known) => known === one)), {
      params: { expected: `${BASELINES.join(', ')}, or both with a comma between them` },
    })
    .optional(),
  report: z.boolean().optional(),
  val: path.optional(),
  valFraction: share.optional(),
  test: named.optional(),
  ood: named.optional(),
  captions: named.optional(),
  shots: number.int().positive().optional(),
  seed: number.int().min(0).optional(),
  dedupe: z.boolean().optional(),
  cut: z.boolean().optional(),
  saveDtype: z.enum(['file', 'f32', 'bf16', 'f16']).optional(),
  memoryBudget: z.union([number.positive(), z.string().transform(parseBytes)]).optional(),
  checkpointEvery: number.int().positive().optional(),
  resume: z.boolean().optional(),
})

export const evalSettings = z.strictObject({
  ...common,
  adapter: path.optional(),
  alpha: z.union([alpha, z.literal('sweep')]).optional(),
  alphas: z.array(alpha).min(1).optional(),
  val: path.optional(),
  data: named.optional(),
  ood: named.optional(),
  captions: named.optional(),
  batch: number.int().positive().optional(),
})

/**
 * Merges the file (if any) under the flags and checks the whole.
 * @param misplaced of a flag of the command that does not go with the others, such as `expected it without --recipe, got both`
 * @throws UsageError naming every wrong setting; those of the file stand behind its name
 */
export async function readSettings<T extends z.ZodType>(
  schema: T,
  flags: Readonly<Record<string, unknown>>,
  misplaced?: string,
): Promise<z.infer<T>> {
  const { config, ...rest } = flags
  const file = typeof config === 'string' ? await readConfig(config) : {}
  const given = { ...file, ...rest }
  const parsed = schema.safeParse(given)
  if (parsed.success) return parsed.data
  const problems = problemsOf(schema, parsed.error, given)
  const keyOf = ({ path, unknown }: Problem) => path[0] ?? unknown?.name ?? ''
  const isOfFile = (problem: Problem) => Object.hasOwn(file, keyOf(problem)) && !Object.hasOwn(rest, keyOf(problem))
  const ofFlags = problems.filter((problem) => !isOfFile(problem))
  const ofFile = problems.filter(isOfFile).map(describe)
  const lines = ofFlags.map((one) =>
    one.unknown && one.path.length === 0 && misplaced ? `${flagOf(one.unknown.name)}: ${misplaced}` : describe(one),
  )
  throw new UsageError([...lines, ...(ofFile.length > 0 ? [`${config}: ${ofFile.join('; ')}`] : [])].join('; '))
}

/** A setting is told as its flag, what lies deeper in it (`--rank-pattern.fc1`) and what has no flag (`tasks.0.shots`) by its place. */
function describe({ path, text, unknown }: Problem): string {
  const [key, ...inside] = path
  if (key === undefined && unknown) return `unknown ${flagOf(unknown.name)}${didYouMean(unknown.nearest && flagOf(unknown.nearest))}`
  if (key === undefined) return text
  const steps = inside.every((step) => /^\d+$/.test(step)) ? [] : inside
  return `${OF_FILES.includes(key) ? path.join('.') : [flagOf(key), ...steps].join('.')}: ${text}`
}

/** Settings without a flag. */
const OF_FILES = ['tasks', 'watch']

/** `loraAlpha`: `--lora-alpha` */
export const flagOf = (key: string): string => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** A YAML map; keys as the flags, with or without dashes. */
async function readConfig(path: string): Promise<Record<string, unknown>> {
  if (path === '') throw new UsageError('--config: expected a file, got ""')
  let value: unknown
  try {
    value = await readYaml(path, `--config ${path}`)
  } catch (error) {
    throw new UsageError(messageOf(error))
  }
  if (value === null || value === undefined) return {}
  if (typeof value !== 'object' || Array.isArray(value))
    throw new UsageError(`--config ${path}: expected a map of settings, got something else`)
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()), entry]),
  )
}

function parseNamed(text: string): NamedPath {
  const at = text.indexOf('=')
  if (at > 0) return { name: text.slice(0, at), path: text.slice(at + 1) }
  const parts = text.split(/[\\/]/).filter((part) => part !== '' && part !== '.')
  return { name: parts.at(-1) ?? text, path: text }
}

/** `8GB`, `512MB`, `2e9`: decimal units, `GiB` binary. */
export function parseBytes(text: string): number {
  const match = /^([\d.]+(?:e\d+)?)\s*(?:([kMGT])(i?)B?|B)?$/i.exec(text.trim())
  const power = match?.[2] ? 'KMGT'.indexOf(match[2].toUpperCase()) + 1 : 0
  const bytes = match ? Number(match[1]) * (match[3] ? 1024 : 1000) ** power : Number.NaN
  if (!(bytes > 0)) throw new UsageError(`--memory-budget: expected a size such as 8GB or 512MB, got ${JSON.stringify(text)}`)
  return bytes
}

/** Templates given as texts with {}, or as files: JSON, or one a line. */
export async function readTemplates(entries: readonly string[] | undefined): Promise<string[] | undefined> {
  if (entries === undefined) return undefined
  const all: string[] = []
  for (const entry of entries) {
    if (entry.includes('{}')) all.push(entry)
    else all.push(...(await templatesOf(entry)))
  }
  return all
}

async function templatesOf(path: string): Promise<readonly string[]> {
  const isThere = (await stat(path).catch(() => undefined)) !== undefined
  if (!isThere) throw new UsageError(`--templates: expected a text with {} for the class or a file of them, got ${JSON.stringify(path)}`)
  const { templates, classNames } = await readClassFile(path)
  const list = templates ?? classNames
  if (Array.isArray(list)) return list
  throw new UsageError(`--templates ${path}: expected a template with {} or a file with a list of them, got neither`)
}

export async function readNames(path: string | undefined): Promise<ClassFile> {
  return path === undefined ? {} : readClassFile(path)
}
