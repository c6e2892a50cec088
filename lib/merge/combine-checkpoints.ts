/**
 * Checkpoints into one, tensor by tensor in constant memory. The result has the files, names and types of the first of them (of
 * the base where there is one).
 *
 * linear: sum of w θ, with normalised weights an average (model soups, Wortsman et al., 2022). slerp: along the arc between two
 * tensors (Shoemake, 1985). wise_ft: (1 − α) base + α model (Wortsman et al., CVPR 2022). The others add differences from the
 * base, θ = base + λ Σ w d: task_arithmetic (Ilharco et al., 2023) all of d; magnitude_prune its largest; dare_linear random
 * ones, rescaled (Yu et al., 2024); ties its largest, of the elected sign, averaged (Yadav et al., 2023); dare_ties random ones
 * so.
 */

import { nearestName } from '../checks/nearest-name.js'
import { CambiumError } from '../errors.js'
import { type Checkpoint, openCheckpoint } from '../formats/checkpoint.js'
import { isMergeable } from '../formats/dtype.js'
import type { StoredTensor } from '../formats/safetensors-read.js'
import type { CombineOptions } from '../native.js'
import { Edits } from './edits.js'
import type { CheckpointRecipe } from './recipe-schema.js'
import { requireOther, type WriteOptions, type WriteReport, writeMerged } from './write-merged.js'

/**
 * Writes the combination into a folder of its own, which appears whole or not at all.
 * @throws E_CHECKPOINT with every tensor that is missing or of another shape, and those of openCheckpoint and writeMerged
 */
export async function combineCheckpoints(recipe: CheckpointRecipe, options: WriteOptions): Promise<WriteReport> {
  const paths = [...(recipe.base === undefined ? [] : [recipe.base]), ...recipe.models.map(({ path }) => path)]
  const checkpoints = await Promise.all(paths.map((path) => openCheckpoint(path)))
  for (const { folder } of checkpoints) requireOther(folder, options.out)
  requireSame(checkpoints)
  const edits = new Edits(checkpoints[0])
  for (const tensor of checkpoints[0].tensors.values()) {
    if (!isMergeable(tensor.dtype) || tensor.count === 0) continue
    const inputs = checkpoints.map(({ tensors }) => tensors.get(tensor.name)).filter((one) => one !== undefined)
    edits.edit(tensor.name).combined = { inputs, options: combineOptions(recipe, tensor) }
  }
  return writeMerged(edits, options)
}

function combineOptions(recipe: CheckpointRecipe, { name }: StoredTensor): CombineOptions {
  const { method, models, lambda = 1, seed = 0, base } = recipe
  if (method === 'slerp') return { slerp: recipe.t ?? 0.5, weights: [1, 1] }
  if (method === 'wise_ft') return { weights: [1 - (recipe.alpha ?? 0.5), recipe.alpha ?? 0.5] }
  const given = models.map(({ weight = 1 }) => weight)
  const sum = given.reduce((a, b) => a + b, 0)
  if (method === 'linear') return { weights: recipe.normalize === false ? given : given.map((weight) => weight / sum) }
  return {
    base: base !== undefined,
    weights: given,
    lambda,
    seed,
    site: hash(name),
    prune: method === 'task_arithmetic' ? 'none' : method.startsWith('dare') ? 'random' : 'magnitude',
    densities: models.map(({ density }) => density ?? recipe.density ?? 0.5),
    sign: method.endsWith('ties') ? (recipe.majority_sign_method ?? 'total') : 'none',
  }
}

/** Tells tensors apart in random draws, by their names: FNV-1a. */
function hash(name: string): number {
  let value = 0x811c9dc5
  for (const byte of new TextEncoder().encode(name)) value = Math.imul(value ^ byte, 0x01000193) >>> 0
  return value
}

function requireSame([first, ...rest]: readonly Checkpoint[]): void {
  const lines: string[] = []
  for (const { folder, tensors } of rest) {
    for (const [name, { shape, dtype }] of first.tensors) {
      const other = tensors.get(name)
      if (!isMergeable(dtype)) continue
      const near = other === undefined ? nearestName(name, tensors.keys()) : undefined
      if (other === undefined) lines.push(`  ${folder}: missing ${name}${near === undefined ? '' : `, nearest: ${near}`}`)
      else if (other.shape.join() !== shape.join())
        lines.push(`  ${folder}: ${name}: expected [${shape.join(', ')}], got [${other.shape.join(', ')}]`)
      else if (!isMergeable(other.dtype)) lines.push(`  ${folder}: ${name}: expected a float type, got ${other.dtype}`)
    }
    for (const name of tensors.keys()) if (!first.tensors.has(name)) lines.push(`  ${folder}: unexpected ${name}`)
  }
  if (lines.length === 0) return
  const shown = lines.slice(0, 16).join('\n')
  const more = lines.length > 16 ? `\n  and ${lines.length - 16} more` : ''
  throw new CambiumError(
    'E_CHECKPOINT',
    `recipe: expected the tensors of ${first.folder} in each checkpoint, got ${lines.length} that differ:\n${shown}${more}`,
    {
      details: { problems: lines },
    },
  )
}
