/** A recipe's file, checked and run: checkpoints or adapters into one. */
import { CambiumError, messageOf } from '../errors.js'
import { readYaml } from '../formats/yaml.js'
import { type CombineReport, combineAdapters } from './combine-adapters.js'
import { combineCheckpoints } from './combine-checkpoints.js'
import { type AdapterRecipe, type CheckpointRecipe, parseRecipe } from './recipe-schema.js'
import type { WriteOptions, WriteReport } from './write-merged.js'

/** What a recipe made: an adapter, or a checkpoint. */
export type RecipeReport = ({ readonly kind: 'adapter' } & CombineReport) | ({ readonly kind: 'checkpoint' } & WriteReport)

/** Reads a recipe (YAML) and checks it. @throws E_USAGE for a file that is no recipe */
export async function readRecipe(path: string): Promise<CheckpointRecipe | AdapterRecipe> {
  let raw: unknown
  try {
    raw = await readYaml(path, `--recipe ${path}`)
  } catch (error) {
    throw new CambiumError('E_USAGE', messageOf(error), { cause: error })
  }
  return parseRecipe(raw, `--recipe ${path}`)
}

/**
 * Runs a recipe.
 * @param options.out before the recipe's own
 * @throws E_USAGE without a folder for the result, and as combineCheckpoints and combineAdapters
 */
export async function runRecipe(recipe: CheckpointRecipe | AdapterRecipe, options: Partial<WriteOptions> = {}): Promise<RecipeReport> {
  const out = options.out ?? recipe.out
  if (out === undefined) throw new CambiumError('E_USAGE', 'out: expected a folder for the result, in the recipe or as --out, got none')
  if ('adapters' in recipe) return { kind: 'adapter', ...(await combineAdapters(recipe, { ...options, out })) }
  return { kind: 'checkpoint', ...(await combineCheckpoints(recipe, { ...options, out, dtype: options.dtype ?? recipe.dtype })) }
}
