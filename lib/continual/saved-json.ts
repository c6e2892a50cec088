// What a method wrote beside its tensors, as it is read back.
import { z } from 'zod'
import { CambiumError } from '../errors.js'

/** @throws E_RUN for anything that the method did not write, saying what is wrong with it */
export function savedJson<T>(method: string, schema: z.ZodType<T>, json: Readonly<Record<string, unknown>>): T {
  const read = schema.safeParse(json)
  if (read.success) return read.data
  throw new CambiumError('E_RUN', `${method}: expected the state of its tasks, got ${z.prettifyError(read.error)}`)
}
