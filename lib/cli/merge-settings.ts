/** Settings of the commands that merge, unmerge and extract. */
import { z } from 'zod'

const shared = {
  threads: z.number().int().positive().optional(),
  json: z.boolean().optional(),
  quiet: z.boolean().optional(),
}
const texts = z.union([
  z.array(z.string().min(1)).min(1),
  z
    .string()
    .min(1)
    .transform((one) => [one]),
])
/** `--verify` alone is a sample. */
const verify = z.union([z.enum(['sample', 'all']), z.literal(true).transform(() => 'sample' as const)])

export const mergeSettings = z.strictObject({
  ...shared,
  model: z.string(),
  adapter: texts,
  weights: z.array(z.number()).optional(),
  out: z.string(),
  alpha: z.number().min(0).max(2).optional(),
  dtype: z.enum(['file', 'f32', 'bf16', 'f16']).optional(),
  safe: z.boolean().optional(),
  verify: verify.optional(),
  keepOriginal: z.boolean().optional(),
  dryRun: z.boolean().optional(),
})
