/** What rounding did to each merged tensor: read back from the disk and compared with the same formula in f64. */
import { CambiumError } from '../errors.js'
import type { MergePlan } from '../native.js'
import { native } from '../native.js'

export interface TensorDrift {
  readonly name: string
  /** elements compared */
  readonly elements: number
  /** share of them that differ from the original */
  readonly changed: number
  /** |written − exact| in units in the last place of the file's type; rounding to nearest gives at most 0.5 */
  readonly maxUlp: number
  readonly meanUlp: number
  /** ‖written − exact‖ / ‖exact‖ */
  readonly relative: number
  /** ‖written − exact‖ / ‖exact − original‖: the share of the change that the file's type cannot hold; 0 without a change */
  readonly ofChange: number
}

/** Rows of a sample: the first, the last but few, and those between at equal distances. */
const SAMPLE_ROWS = 32

/**
 * Compares every row of each changed tensor, or a sample of rows.
 * @throws E_VERIFY when a tensor on the disk is not the rounded exact result
 */
export async function verifyFile(plan: MergePlan, rows: 'sample' | 'all', signal?: AbortSignal): Promise<TensorDrift[]> {
  const drifts: TensorDrift[] = []
  for (const [i, { fold }] of plan.segments.entries()) {
    if (fold === undefined) continue
    signal?.throwIfAborted()
    const stride = rows === 'all' ? 1 : Math.max(1, Math.ceil(fold.rows / SAMPLE_ROWS))
    const sums = await native.measureDrift(plan, i, stride)
    const { elements, maxUlp } = sums
    const drift = {
      name: fold.name,
      elements,
      changed: sums.changed / elements,
      maxUlp,
      meanUlp: sums.sumUlp / elements,
      relative: ratio(sums.error, sums.exact),
      ofChange: sums.delta === 0 ? 0 : ratio(sums.error, sums.delta),
    }
    // Results that are not finite have no distance; they are counted when they are written.
    if (maxUlp > 0.5001)
      throw new CambiumError('E_VERIFY', `${fold.name}: expected the rounded result on the disk, got one ${maxUlp} units away`)
    drifts.push(drift)
  }
  return drifts
}

const ratio = (a: number, b: number): number => (a === 0 ? 0 : Math.sqrt(a / b))
