/**
 * Matrices as tables of coloured cells: accuracy of every set after every task, and which task was chosen for what. The number
 * stands in its cell; the colour is of CSS variables, so that it is dark where the page is.
 */
import { accuracy, type LearnMethod, type LearnSet, percents, spreadCell, stageCount } from './learn-methods.js'
import { type Content, html, type Markup, name, shorten, table } from './markup.js'
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

/**
 * Rows: the pretrained model and the model after each task; columns: sets, watched ones apart. Colours: points from the first row.
 * @param round whole percents, where there is little room
 */
export function accuracyMap(method: LearnMethod, sets: readonly LearnSet[], largest: number, round: boolean): Markup {
  const { tasks } = method.runs[0]
  const stages = Array.from({ length: stageCount([method]) }, (_, stage) => stage)
  const nameOf = (stage: number): Content =>
    stage === 0 ? 'pretrained' : name(shorten(taskName(tasks[stage - 1]?.name, sets, stage - 1), 12))
  const rows = stages.map((stage) => ({ name: nameOf(stage), cells: sets.map((set) => accuracyCell(method, stage, set, largest, round)) }))
  const numbers = table(
    ['', ...sets.map((set) => name(shorten(set.name, 16)))],
    stages.map((stage) => [nameOf(stage), ...sets.map(({ index }) => spreadCell(accuracy(method, stage, index)))]),
  )
  return html`<figure>${heatMap({ caption: shorten(method.label, 28), columns: sets.map((set) => set.name), rows, gap: sets.findIndex(({ task }) => task === null) })}
<details><summary>The numbers</summary>${numbers}</details></figure>`
}

function accuracyCell(method: LearnMethod, stage: number, set: LearnSet, largest: number, round: boolean): Cell | undefined {
  const { index, task } = set
  const [here, before] = [accuracy(method, stage, index), accuracy(method, 0, index)]
  if (here === undefined) return undefined
  const change = before === undefined ? 0 : here.mean - before.mean
  const from = before !== undefined && stage > 0 ? `, ${points(change)} points from the pretrained model` : ''
  const mark = task === null || stage === 0 || task < stage - 1 ? undefined : task === stage - 1 ? ('own' as const) : ('before' as const)
  const text = round ? (100 * here.mean).toFixed(0) : percent(here.mean)
  return { heat: change / largest, text, title: `${set.name}: ${percents(here)} %${from}`, ...(mark ? { mark } : {}) }
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
