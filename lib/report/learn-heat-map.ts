/**
 * Matrices as tables of coloured cells: accuracy of every set after every task, and which task was chosen for what. The number
 * stands in its cell; the colour is of CSS variables, so that it is dark where the page is.
 */
import { accuracy, type LearnMethod, type LearnSet, percents, stageCount } from './learn-methods.js'
import { type Content, html, type Markup, name, shorten } from './markup.js'
import { percent, points } from './numbers.js'

export interface Cell {
  /** −1 (all warm) to 1 (all accent); 0: as the page */
  readonly heat: number
  readonly text: string
  /** Said to those who point at it. */
  readonly title?: string
  /** Of a set that was not learned yet, or of the task itself. */
  readonly mark?: 'before' | 'own'
}

export interface HeatMapOptions {
  readonly caption: string
  readonly columns: readonly string[]
  readonly rows: readonly { readonly name: Content; readonly cells: readonly (Cell | undefined)[] }[]
  /** Column before which a gap stands. */
  readonly gap?: number
}

export function heatMap({ caption, columns, rows, gap }: HeatMapOptions): Markup {
  const apart = (column: number) => (column === gap && gap > 0 ? ' gap' : '')
  const cellOf = (cell: Cell | undefined, column: number) =>
    cell === undefined
      ? html`<td class="none${apart(column)}">–</td>`
      : html`<td class="${cell.heat < 0 ? 'cold' : 'hot'}${cell.mark ? ` ${cell.mark}` : ''}${apart(column)}" style="--heat:${Math.min(1, Math.abs(cell.heat)).toFixed(2)}"${cell.title !== undefined && html` title="${cell.title}"`}>${cell.text}</td>`
  return html`<div class="scroll" tabindex="0"><table class="heat"><caption>${caption}</caption>
<thead><tr><th scope="col"></th>${columns.map((column, i) => html`<th scope="col" class="turned${apart(i)}"><span>${name(shorten(column, 16))}</span></th>`)}</tr></thead>
<tbody>${rows.map(({ name: row, cells }) => html`<tr><th scope="row">${row}</th>${cells.map(cellOf)}</tr>\n`)}</tbody></table></div>`
}

/** Rows: the pretrained model and the model after each task; columns: sets, watched ones apart. Colours: points from the first row. */
export function accuracyMap(method: LearnMethod, sets: readonly LearnSet[], stages: number, largest: number): Markup {
  const { tasks } = method.runs[0]
  const rows = Array.from({ length: stages }, (_, stage) => ({
    name: stage === 0 ? 'pretrained' : html`<small>after</small> ${name(shorten(taskName(tasks[stage - 1]?.name, sets, stage - 1), 14))}`,
    cells: sets.map(({ index, task, name: set }): Cell | undefined => {
      const here = accuracy(method, stage, index)
      const before = accuracy(method, 0, index)
      if (here === undefined) return undefined
      const change = before === undefined ? 0 : here.mean - before.mean
      const title = `${set}: ${percents(here)} %${before !== undefined && stage > 0 ? `, ${points(change)} points from the pretrained model` : ''}`
      const own = task === stage - 1 && task !== null
      const mark = stage > 0 && task !== null && task >= stage ? ('before' as const) : own ? ('own' as const) : undefined
      return { heat: change / largest, text: percent(here.mean), title, ...(mark ? { mark } : {}) }
    }),
  }))
  const gap = sets.findIndex(({ task }) => task === null)
  const caption = `${method.label}: accuracy in percent after each task`
  return heatMap({ caption, columns: sets.map((set) => set.name), rows, gap })
}

/** The name of the set of a task: what its column says. */
const taskName = (own: string | undefined, sets: readonly LearnSet[], task: number): string =>
  sets.find((set) => set.task === task)?.name ?? own ?? String(task + 1)

/** The largest change from the pretrained model, of all methods: full colour. At least a hundredth, so that noise stays pale. */
export function largestChange(methods: readonly LearnMethod[], sets: readonly LearnSet[]): number {
  const changes = methods.flatMap((method) =>
    sets.flatMap(({ index }) =>
      Array.from({ length: stageCount([method]) }, (_, stage) => {
        const [here, before] = [accuracy(method, stage, index), accuracy(method, 0, index)]
        return here && before ? Math.abs(here.mean - before.mean) : 0
      }),
    ),
  )
  return Math.max(0.01, ...changes)
}
