// How a stream of tasks is written down: the part of a tasks file that says what comes, in which order, under which protocol.
import { z } from 'zod'

export const LEARN_PROTOCOLS = ['domain-class-incremental', 'class-incremental', 'domain-incremental'] as const
export type LearnProtocol = (typeof LEARN_PROTOCOLS)[number]

const text = z.string().min(1)
const share = z.number().min(0).lt(1)
const names = z.union([z.array(text), z.record(z.string(), text), text])
const templates = z.union([z.array(text), text.transform((one) => [one])])

export const taskSpec = z.strictObject({
  /** unique in the stream */
  name: text.regex(/^[^/\\]+$/, 'expected a name without slashes'),
  /** folder with a folder for each class, .csv or .jsonl */
  train: text,
  /** another set of the same classes; or the share of `train` that is set apart for it */
  test: z.union([text, share.gt(0)]),
  /** chooses settings and epochs: a set, or the share of `train` (default 0.1; 0: none) */
  validation: z.union([text, share]).optional(),
  /** list in the order of the classes, folder -> name, or a file of either; wins over the set's `classes.json` */
  classNames: names.optional(),
  templates: templates.optional(),
  /** images of each class that train, drawn by the seed of the run */
  shots: z.number().int().positive().optional(),
  /** images of each class for validation beside the shots, when no validation set is given (default min(shots, 4)) */
  validationShots: z.number().int().min(0).optional(),
  /** of the shares that are set apart; the same for every seed of the run. Default 0 */
  splitSeed: z.number().int().min(0).optional(),
  /** names of the classes that take part, in this order; default all */
  classes: z.array(text).min(1).optional(),
})

export const watchSpec = z.strictObject({ name: text, test: text, classNames: names.optional(), templates: templates.optional() })

/** Spread into the schema of whatever reads a tasks file. */
export const streamShape = {
  /** several datasets one after the other (MTIL); one dataset by classes; the same classes in every task */
  protocol: z.enum(LEARN_PROTOCOLS).optional(),
  tasks: z.array(taskSpec).min(1),
  /** sets that are looked at after every task, such as what pretraining knew */
  watch: z.array(watchSpec).optional(),
  /** class-incremental: classes of the first task (default `increment`) and of each further one; the last may have fewer */
  base: z.number().int().positive().optional(),
  increment: z.number().int().positive().optional(),
  /** class-incremental: seed of the order of the classes, or `given`; default the seed of the run */
  order: z.union([z.number().int().min(0), z.literal('given')]).optional(),
  /** of tasks that have none of their own */
  splitSeed: z.number().int().min(0).optional(),
  /** of tasks that have none of their own; default those of the set, else `a photo of a {}.` */
  templates: templates.optional(),
} as const

/** A task as a tasks file names it: where its images are, how they are split, which classes take part. */
export type TaskSpec = z.infer<typeof taskSpec>
export type WatchSpec = z.infer<typeof watchSpec>
/** A stream of tasks as a tasks file (YAML) has it. See docs/continual.md. */
export type StreamSpec = z.infer<z.ZodObject<typeof streamShape>>
