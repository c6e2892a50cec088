// What a method wrote beside its tensors, as it is read back.
import type { z } from 'zod'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'

/** @throws E_RUN for anything that the method did not write, saying what is wrong with it */
export function savedJson<T>(method: string, schema: z.ZodType<T>, json: Readonly<Record<string, unknown>>): T {
  const read = schema.safeParse(json)
  if (read.success) return read.data
  throw new CambiumError('E_RUN', `${method}: state of its tasks: ${problemText(schema, read.error, json)}`)
}
