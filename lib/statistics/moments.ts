/**
 * Mean and covariance of feature rows in one pass: rows come in pieces of any size, sums are kept in doubles and take the rows
 * in their order, so the pieces change no bit. Memory is D²/2 doubles, whatever the number of rows.
 */
import { CambiumError } from '../errors.js'
import { type NativeCovariance, native } from '../native.js'

/** The sizes of a packed lower triangle and of the sums behind it. */
const packedSize = (dimension: number) => (dimension * (dimension + 1)) / 2

/** Mean and covariance of rows [·, D] in one pass, exact in f64 and the same however the rows were cut into pieces. */
export class Moments {
  private readonly values: Float64Array
  private queue: Promise<void> = Promise.resolve()

  /** @param dimension D, the length of a row */
  constructor(readonly dimension: number) {
    this.values = new Float64Array(2 + 3 * dimension + packedSize(dimension))
  }

  /** Adds rows [N, D], which must stay as they are until the promise settles. @throws E_SHAPE */
  add(rows: Float32Array): Promise<void> {
    if (rows.length % this.dimension !== 0)
      throw new CambiumError('E_SHAPE', `rows: expected [N, ${this.dimension}], got ${rows.length} numbers`)
    const added = this.queue.then(() => native.addMoments({ moments: this.values, dimension: this.dimension, rows }))
    this.queue = added.catch(() => {})
    return added
  }

  /** What was seen so far. @throws E_DATA before the first row */
  async covariance(): Promise<NativeCovariance> {
    await this.queue
    return native.covariance({ moments: this.values, dimension: this.dimension })
  }
}
