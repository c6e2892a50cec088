// What a finished cell found, and the file of all of them by key: a protocol that is stopped goes on after the last of them.

import { join } from 'node:path'
import { z } from 'zod'
import { problemText } from '../checks/problems.js'
import { CambiumError } from '../errors.js'
import { makeFolder, writeFileAtomic } from '../formats/atomic-file.js'
import { readJsonObject } from '../formats/json-fields.js'

/** What was measured at one α. */
interface CellPoint {
  /** the α asked for, or `validation` */
  readonly policy: number | 'validation'
  readonly alpha: number
  /** as measures.ts names them */
  readonly measures: Readonly<Record<string, number>>
}

/** A method trained on a task with a seed; or the pretrained model, which has neither images nor steps. */
export interface CellResult {
  /** of everything that the result depends on */
  readonly key: string
  readonly task: string
  readonly dataset: string
  readonly shots?: number
  readonly seed: number
  readonly method: string
  readonly images?: number
  readonly steps?: number
  readonly seconds?: number
  /** the learning rate taken, and the validation scores that it was chosen by */
  readonly rate?: number
  readonly rates?: readonly { readonly rate: number; readonly score: number | null }[]
  readonly points: readonly CellPoint[]
}

const FILE = 'cells.json'

const cell = z.looseObject({
  key: z.string(),
  task: z.string(),
  dataset: z.string(),
  seed: z.number(),
  method: z.string(),
  points: z.array(
    z.object({
      policy: z.union([z.number(), z.literal('validation')]),
      alpha: z.number(),
      measures: z.record(z.string(), z.number()),
    }),
  ),
})
const schema = z.object({ version: z.literal(1), cells: z.array(cell) })

/** Empty when there are none. @throws E_RUN for a malformed file */
export async function readCells(folder: string): Promise<Map<string, CellResult>> {
  const path = join(folder, FILE)
  const raw = await readJsonObject(path)
  if (!raw) return new Map()
  const parsed = schema.safeParse(raw)
  if (!parsed.success) throw new CambiumError('E_RUN', `${path}: ${problemText(schema, parsed.error, raw)}`)
  return new Map(parsed.data.cells.map((one) => [one.key, one as CellResult]))
}

export async function writeCells(folder: string, cells: ReadonlyMap<string, CellResult>): Promise<void> {
  await makeFolder(folder)
  await writeFileAtomic(join(folder, FILE), `${JSON.stringify({ version: 1, cells: [...cells.values()] }, null, 1)}\n`)
}
