/** The settings of `cambium learn`: a tasks file, with flags over it. */
import { z } from 'zod'
import { streamShape } from '../continual/task-spec.js'
import { common, parseBytes, path, UsageError } from './settings.js'

const count = z.number().int()
const label = z.string().regex(/^[\w.+-]+$/, 'expected a name of letters, digits and _.+-')
const { templates: _, classNames: __, ...shared } = common

export const learnSettings = z.strictObject({
  ...shared,
  ...streamShape,
  /** not with `continue` */
  model: path.optional(),
  out: path.optional(),
  /** folder of a finished run, or of several, that takes the tasks of the file */
  continue: path.optional(),
  /** label -> method and its settings; or names of methods */
  methods: z.union([z.record(label, z.looseObject({ method: z.string() })), z.array(z.string()).min(1)]).optional(),
  /** labels of `methods`, or names of methods: those that run */
  only: z.array(z.string().min(1)).min(1).optional(),
  seeds: z.array(count.min(0)).min(1).optional(),
  epochs: count.positive().optional(),
  batch: count.positive().optional(),
  accumulate: count.positive().optional(),
  checkpointEvery: z.union([count.positive(), z.literal(false)]).optional(),
  evaluationBatch: count.positive().optional(),
  memoryBudget: z.union([z.number().positive(), z.string().transform(parseBytes)]).optional(),
  saveModel: z.boolean().optional(),
  report: z.boolean().optional(),
})

export type LearnSettings = z.infer<typeof learnSettings>

export interface MethodOfFile {
  readonly label: string
  readonly method: string
  readonly settings: Readonly<Record<string, unknown>>
}

/** The methods to run: all of the file, or those asked for by label or by name; without any, DIKI. @throws UsageError */
export function methodsOf({ methods = {}, only }: Pick<LearnSettings, 'methods' | 'only'>, names: readonly string[]): MethodOfFile[] {
  const plain = (name: string): MethodOfFile => ({ label: name, method: name, settings: {} })
  const listed = Array.isArray(methods)
    ? methods.map(plain)
    : Object.entries(methods).map(([label, { method, ...settings }]) => ({ label, method, settings }))
  if (!only) return listed.length > 0 ? listed : [plain('diki')]
  return only.map((wanted) => {
    const found = listed.find(({ label }) => label === wanted) ?? (names.includes(wanted) ? plain(wanted) : undefined)
    if (found) return found
    const known = [...new Set([...listed.map(({ label }) => label), ...names])]
    throw new UsageError(`--methods: expected some of ${known.join(', ')}, got ${wanted}`)
  })
}
