/**
 * Class heads of the text tower under each task's parameters at each weight, computed when first asked for and kept.
 *
 * A sample's weight is any number in [0, 1]; heads are made at the `cells` + 1 weights g / cells only, and cosines between them are
 * interpolated linearly. A head's row h(w) is a smooth curve of unit vectors, so a logit is wrong by at most
 *
 *   exp(logit_scale) · max ‖h″‖ / (8 cells²)  ≈  exp(logit_scale) · max ‖h(w−Δ) − 2 h(w) + h(w+Δ)‖ / 8,   Δ = 1 / cells,
 *
 * the bound of linear interpolation for a unit query; {@link TextBank.logitErrorBound} measures it. Weight 0 is the frozen text tower's
 * head to the bit, and grid weights are exact.
 */
import { CambiumError } from '../errors.js'
import type { View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { type EncodeOptions, type ScoreVisitor, similarities } from '../train/features.js'
import { promptHead } from './cosine-scores.js'
import type { ClassPrompts } from './learner.js'

export interface TextBankOptions {
  /** Default 16. */
  cells?: number
  /** Bytes of heads kept; those not used for longest go first. Default 256 MB. */
  budget?: number
}

/** What a text head is made for. */
export interface TextChoice {
  /** i32 [N] */
  readonly task: Int32Array
  /** f32 [N], in [0, 1] */
  readonly textWeight: Float32Array
}

export class TextBank {
  readonly cells: number
  private readonly budget: number
  private readonly heads = new Map<string, Float32Array>()
  private bytes = 0

  /**
   * @param view a task's parameters at a weight, for the text tower
   * @throws E_OPTION for cells that are no positive integer
   */
  constructor(
    private readonly clip: Clip,
    private readonly view: (task: number, weight: number) => Promise<View>,
    { cells = 16, budget = 256e6 }: TextBankOptions = {},
  ) {
    if (!Number.isInteger(cells) || cells < 1) throw new CambiumError('E_OPTION', `cells: expected a positive integer, got ${cells}`)
    this.cells = cells
    this.budget = budget
  }

  /**
   * Cosines of every query with every class, the text tower under the query's own task and weight, in blocks of whole rows.
   * @param queries f32 [N, P], normalised
   */
  async scores(
    queries: Float32Array,
    classes: readonly ClassPrompts[],
    choice: TextChoice,
    visit: ScoreVisitor,
    options: EncodeOptions = {},
  ): Promise<void> {
    const width = this.clip.config.projectionDim
    const count = queries.length / width
    const block = Math.max(1, Math.floor((options.scoresAtOnce ?? 4e6) / classes.length))
    for (let first = 0; first < count; first += block) {
      const rows = Math.min(block, count - first)
      const scores = new Float32Array(rows * classes.length)
      for (const { task, cell, members } of this.groups(choice, first, rows)) {
        const gathered = new Float32Array(members.length * width)
        for (const [place, i] of members.entries()) gathered.set(queries.subarray(i * width, (i + 1) * width), place * width)
        const cosines = async (at: number, take: (row: Float32Array, i: number) => void) =>
          similarities(
            gathered,
            await this.head(classes, task, at, options),
            width,
            (values, from, n) => {
              for (let k = 0; k < n; k++) take(values.subarray(k * classes.length, (k + 1) * classes.length), members[from + k])
            },
            options,
          )
        await cosines(cell, (row, i) => scores.set(row, (i - first) * classes.length))
        const share = (i: number) => choice.textWeight[i] * this.cells - cell
        if (members.some((i) => share(i) > 0))
          await cosines(cell + 1, (row, i) => mixInto(scores.subarray((i - first) * classes.length), row, share(i)))
      }
      visit(scores, first, rows)
    }
  }

  /** The largest error that interpolation may make in a logit of these classes, by second differences on the grid. */
  async logitErrorBound(classes: readonly ClassPrompts[], task: number, options: EncodeOptions = {}): Promise<number> {
    const width = this.clip.config.projectionDim
    const heads: Float32Array[] = []
    for (let cell = 0; cell <= this.cells; cell++) heads.push(await this.head(classes, task, cell, options))
    let largest = 0
    for (let cell = 1; cell < this.cells; cell++)
      for (let row = 0; row < classes.length * width; row += width) {
        let square = 0
        for (let k = row; k < row + width; k++) square += (heads[cell - 1][k] - 2 * heads[cell][k] + heads[cell + 1][k]) ** 2
        largest = Math.max(largest, square)
      }
    return (Math.exp(await this.clip.logitScale.item()) * Math.sqrt(largest)) / 8
  }

  /** Forgets every head: the banks behind them are others now. */
  clear(): void {
    this.heads.clear()
    this.bytes = 0
  }

  /** Queries [first, first + rows) by task and cell, in that order. */
  private groups({ task, textWeight }: TextChoice, first: number, rows: number) {
    const groups = new Map<number, { task: number; cell: number; members: number[] }>()
    for (let i = first; i < first + rows; i++) {
      const cell = Math.min(Math.floor(textWeight[i] * this.cells), this.cells)
      const key = task[i] * (this.cells + 1) + cell
      const group = groups.get(key) ?? { task: task[i], cell, members: [] }
      groups.set(key, group)
      group.members.push(i)
    }
    return [...groups].sort(([a], [b]) => a - b).map(([, group]) => group)
  }

  /** [C, P] at weight cell / cells. */
  private async head(classes: readonly ClassPrompts[], task: number, cell: number, options: EncodeOptions): Promise<Float32Array> {
    const key = JSON.stringify([cell === 0 ? -1 : task, cell, classes.map(({ prompts }) => prompts)]) // weight 0 is the frozen tower, whatever the task
    const known = this.heads.get(key)
    if (known) {
      this.heads.delete(key)
      this.heads.set(key, known)
      return known
    }
    const view = await this.view(task, cell / this.cells)
    try {
      const made = await promptHead(this.clip, classes, cell === 0 ? undefined : view, { ...options, cache: undefined })
      this.keep(key, made)
      return made
    } finally {
      await view.dispose()
    }
  }

  private keep(key: string, head: Float32Array): void {
    this.heads.set(key, head)
    this.bytes += head.byteLength
    for (const [oldest, values] of this.heads) {
      if (this.bytes <= this.budget || oldest === key) break
      this.heads.delete(oldest)
      this.bytes -= values.byteLength
    }
  }
}

/** a + share · (b − a), into a: where both are the same, so is the result. */
function mixInto(a: Float32Array, b: Float32Array, share: number): void {
  if (share <= 0) return
  for (let k = 0; k < b.length; k++) a[k] += share * (b[k] - a[k])
}
