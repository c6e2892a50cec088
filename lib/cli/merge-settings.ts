/** Settings of the commands that merge, unmerge and extract. */
import { z } from 'zod'
import { common, path } from './settings.js'

const { threads, json, quiet } = common
const shared = { threads, json, quiet }
const texts = z.union([
  z.array(z.string().min(1)).min(1),
  z
    .string()
    .min(1)
    .transform((one) => [one]),
])
/** `--verify` alone is a sample. */
const verify = z.union([z.enum(['sample', 'all']), z.literal(true).transform(() => 'sample' as const)])

const output = {
  ...shared,
  out: path,
  safe: z.boolean().optional(),
  verify: verify.optional(),
  dryRun: z.boolean().optional(),
}

export const mergeSettings = z.strictObject({
  ...output,
  model: path,
  adapter: texts,
  weights: z.array(z.number()).optional(),
  alpha: z.number().min(0).max(2).optional(),
  dtype: z.enum(['file', 'f32', 'bf16', 'f16']).optional(),
  keepOriginal: z.boolean().optional(),
})

/** With a recipe nothing else says what is merged. */
export const recipeSettings = z.strictObject({
  ...output,
  recipe: path,
  out: path.optional(),
  dtype: z.enum(['file', 'f32', 'bf16', 'f16']).optional(),
})

export const unmergeSettings = z.strictObject({
  ...output,
  model: path,
  adapter: texts.optional(),
  weights: z.array(z.number()).optional(),
  original: path.optional(),
})

export const extractSettings = z.strictObject({
  ...shared,
  base: path,
  model: path,
  out: path,
  rank: z.number().int().positive().optional(),
  targets: z
    .union([z.string().transform((text) => (/^[\w.,-]+$/.test(text) && text !== 'all-linear' ? text.split(',') : text)), texts])
    .optional(),
  exact: z.boolean().optional(),
})
