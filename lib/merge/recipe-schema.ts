/** Recipes of `cambium merge --recipe`: what a YAML file may say. Names as in PEFT's add_weighted_adapter and in mergekit. */
import { z } from 'zod'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'

const share = z.number().min(0).max(1)
const weighted = z.strictObject({ path: z.string().min(1), weight: z.number().optional(), density: share.optional() })

const common = {
  out: z.string().min(1).optional(),
  /** share of the elements that stay; of one model its own `density` */
  density: share.optional(),
  majority_sign_method: z.enum(['total', 'frequency']).optional(),
  /** of random pruning */
  seed: z.number().int().min(0).optional(),
}

const CHECKPOINT_METHODS = ['linear', 'slerp', 'wise_ft', 'task_arithmetic', 'ties', 'dare_linear', 'dare_ties', 'magnitude_prune'] as const

export const checkpointRecipe = z
  .strictObject({
    ...common,
    method: z.enum(CHECKPOINT_METHODS),
    base: z.string().min(1).optional(),
    models: z.array(weighted).min(1),
    /** linear: divide by the sum of the weights (default true) */
    normalize: z.boolean().optional(),
    /** factor of the summed differences */
    lambda: z.number().optional(),
    /** slerp: 0 is the first, 1 the second */
    t: z.number().optional(),
    /** wise_ft: 0 is the base, 1 the model */
    alpha: z.number().optional(),
    dtype: z.enum(['file', 'f32', 'bf16', 'f16']).optional(),
  })
  .superRefine(({ method, base, models, normalize }, context) => {
    const expect = (holds: boolean, path: string, message: string) => {
      if (!holds) context.addIssue({ code: 'custom', path: [path], message })
    }
    const needsBase = method !== 'linear' && method !== 'slerp'
    expect(needsBase === (base !== undefined), 'base', `${method}: expected ${needsBase ? 'a base' : 'no base'}, got ${base ?? 'none'}`)
    if (method === 'slerp') expect(models.length === 2, 'models', `slerp: expected two models, got ${models.length}`)
    if (method === 'wise_ft') expect(models.length === 1, 'models', `wise_ft: expected one model and a base, got ${models.length}`)
    const sum = models.reduce((total, { weight = 1 }) => total + weight, 0)
    if (method === 'linear' && normalize !== false) expect(sum !== 0, 'models', 'linear: expected weights with a sum other than 0, got 0')
  })

const ADAPTER_METHODS = [
  'linear',
  'cat',
  'svd',
  'ties',
  'ties_svd',
  'dare_linear',
  'dare_ties',
  'dare_linear_svd',
  'dare_ties_svd',
  'magnitude_prune',
  'magnitude_prune_svd',
] as const

export const adapterRecipe = z.strictObject({
  ...common,
  method: z.enum(ADAPTER_METHODS),
  adapters: z.array(weighted.omit({ density: true })).min(1),
  /** of the result, for the methods that end in svd; default: the largest of the adapters' */
  rank: z.number().int().positive().optional(),
})

/** Checkpoints into one, as a recipe file has it. See docs/merging.md. */
export type CheckpointRecipe = z.infer<typeof checkpointRecipe>
/** Adapters into one, as a recipe file has it. See docs/merging.md. */
export type AdapterRecipe = z.infer<typeof adapterRecipe>

/** Checks a parsed file. @param where leads what is wrong: the file @throws E_USAGE */
export function parseRecipe(raw: unknown, where: string): CheckpointRecipe | AdapterRecipe {
  const isAdapters = typeof raw === 'object' && raw !== null && 'adapters' in raw
  const schema: z.ZodType<CheckpointRecipe | AdapterRecipe> = isAdapters ? adapterRecipe : checkpointRecipe
  const parsed = schema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw new CambiumError('E_USAGE', `${where}: ${problemText(schema, parsed.error, raw)}`)
}
