/**
 * Class heads of the text tower under each task's parameters at each weight, computed when first asked for and kept.
 *
 * A sample's weight is any number in [0, 1]; heads are made at the `cells` + 1 weights g / cells only. A head's row is a smooth curve of
 * unit vectors in w; between grid points, cosines are interpolated by the cubic through the four grid points around (Lagrange), whose
 * error falls with cells⁻⁴. For a unit query no logit is wrong by more than exp(logit_scale) · ‖h(w) − interpolated h(w)‖, which
 * {@link TextBank.logitErrorBound} measures. Weight 0 is the frozen text tower's head to the bit, and grid weights are exact.
 */
import { CambiumError } from '../errors.js'
import type { View } from '../injection/injection.js'
import type { Clip } from '../models/clip.js'
import { type EncodeOptions, type ScoreVisitor, similarities } from '../train/features.js'
import { promptHead } from './cosine-scores.js'
import type { ClassPrompts } from './learner.js'

/** How fine the grid of weights is, and how much of it is kept. */
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

/**
 * Class heads of the text tower under each task's parameters at any weight in [0, 1]: made at `cells` + 1 weights, a cubic in between,
 * with a bound that is measured ({@link TextBank.logitErrorBound}).
 */
export class TextBank {
  readonly cells: number
  private readonly budget: number
  private readonly heads = new Map<string, Float32Array>()
  #bytes = 0

  /**
   * @param view a task's parameters at a weight, for the text tower
   * @throws E_OPTION for cells that are no integer of at least 3
   */
  constructor(
    private readonly clip: Clip,
    private readonly view: (task: number, weight: number) => Promise<View>,
    { cells = 16, budget = 256e6 }: TextBankOptions = {},
  ) {
    if (!Number.isInteger(cells) || cells < 3) throw new CambiumError('E_OPTION', `cells: expected an integer of at least 3, got ${cells}`)
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
        const at = members.map((i) => choice.textWeight[i] * this.cells)
        const made = await this.interpolated(gathered, at, classes, { ...options, task, cell })
        for (const [place, i] of members.entries())
          scores.set(made.subarray(place * classes.length, (place + 1) * classes.length), (i - first) * classes.length)
      }
      visit(scores, first, rows)
    }
  }

  /** Cosines [N, C] of queries of one task in one cell, each at its own weight, `at` in cells. */
  private async interpolated(
    queries: Float32Array,
    at: readonly number[],
    classes: readonly ClassPrompts[],
    options: EncodeOptions & { readonly task: number; readonly cell: number },
  ): Promise<Float32Array> {
    const { task, cell } = options
    const cosines = async (node: number) => {
      const out = new Float32Array(at.length * classes.length)
      const visit: ScoreVisitor = (values, first) => out.set(values, first * classes.length)
      await similarities(queries, await this.head(classes, task, node, options), this.clip.config.projectionDim, visit, options)
      return out
    }
    const own = await cosines(cell)
    if (at.every((place) => place === cell)) return own
    const out = own.slice()
    for (const node of this.nodesAround(cell)) {
      if (node === cell) continue
      const other = await cosines(node)
      for (const [row, place] of at.entries()) {
        const share = this.shareOf(node, cell, place)
        // Nothing is added where the two are the same: equal heads leave the bits of one.
        for (let k = row * classes.length; k < (row + 1) * classes.length; k++) out[k] += share * (other[k] - own[k])
      }
    }
    return out
  }

  /**
   * How wrong interpolation can make a logit of these classes for any unit query: the largest distance of an exact head's row from the
   * interpolated one, in the middle of each cell and times 1.07, since in the outer cells a cubic's error is largest beside the middle.
   */
  async logitErrorBound(classes: readonly ClassPrompts[], task: number, options: EncodeOptions = {}): Promise<number> {
    const width = this.clip.config.projectionDim
    let largest = 0
    for (let cell = 0; cell < this.cells; cell++) {
      const exact = await this.headAt(classes, task, (cell + 0.5) / this.cells, options)
      const nodes = this.nodesAround(cell).map((node) => ({ node, share: this.shareOf(node, cell, cell + 0.5) }))
      const heads: Float32Array[] = []
      for (const { node } of nodes) heads.push(await this.head(classes, task, node, options))
      for (let row = 0; row < exact.length; row += width) {
        let square = 0
        for (let k = row; k < row + width; k++) square += heads.reduce((rest, head, j) => rest - nodes[j].share * head[k], exact[k]) ** 2
        largest = Math.max(largest, square)
      }
    }
    return 1.07 * Math.exp(await this.clip.logitScale.item()) * Math.sqrt(largest)
  }

  /** Of the heads that are kept. */
  get bytes(): number {
    return this.#bytes
  }

  /** Forgets every head: the banks behind them are others now. */
  clear(): void {
    this.heads.clear()
    this.#bytes = 0
  }

  /** The four grid points around a cell. */
  private nodesAround(cell: number): number[] {
    const from = Math.min(Math.max(cell - 1, 0), this.cells - 3)
    return [from, from + 1, from + 2, from + 3]
  }

  /** What a grid point weighs in the cubic through those around the cell, at `at` in cells: 0 and 1 exactly at grid points. */
  private shareOf(node: number, cell: number, at: number): number {
    return this.nodesAround(cell).reduce((share, other) => (other === node ? share : (share * (at - other)) / (node - other)), 1)
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
    const made = await this.headAt(classes, task, cell / this.cells, options)
    this.keep(key, made)
    return made
  }

  private async headAt(classes: readonly ClassPrompts[], task: number, weight: number, options: EncodeOptions): Promise<Float32Array> {
    const view = await this.view(task, weight)
    try {
      return await promptHead(this.clip, classes, weight === 0 ? undefined : view, { ...options, cache: undefined })
    } finally {
      await view.dispose()
    }
  }

  private keep(key: string, head: Float32Array): void {
    this.heads.set(key, head)
    this.#bytes += head.byteLength
    for (const [oldest, values] of this.heads) {
      if (this.#bytes <= this.budget || oldest === key) break
      this.heads.delete(oldest)
      this.#bytes -= values.byteLength
    }
  }
}
