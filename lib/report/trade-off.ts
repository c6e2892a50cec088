/** Scores of every model on every set, and the curve over α: what is learned against what is kept. */
import { resultAt, type SetChange, scoreOf, type Verdict } from './changes.js'
import { MARKS, type Mark, type Track, tradeOffChart } from './charts.js'
import { figure } from './figure.js'
import { methodName } from './head.js'
import { html, list, type Markup, name, shorten, table } from './markup.js'
import { mean, percent, points } from './numbers.js'
import type { Run, RunReport, SetEvaluation } from './run-folder.js'

export interface Compared {
  readonly name: string
  readonly report: RunReport
  /** Why its numbers may not be comparable. */
  readonly warning?: string
}

/** Zero-shot scores differ by a rounding between methods: one keeps its weights in f32, the other reads them in bf16. */
const SAME = 0.02

const sizeOf = (evaluation: SetEvaluation): number => (evaluation.task === 'classification' ? evaluation.count : evaluation.images)

/** Other runs as far as they share sets with this one. */
export function comparable(run: Run, others: readonly Run[]): Compared[] {
  const own = run.report && resultAt(run.report, 0)?.evaluation
  return others.flatMap(({ report, name }) => {
    const base = report && resultAt(report, 0)?.evaluation
    if (!own || !report || !base) return []
    const shared = Object.keys(own).filter((set) => base[set] !== undefined)
    const same =
      shared.length > 0 &&
      shared.every((set) => sizeOf(own[set]) === sizeOf(base[set]) && Math.abs(scoreOf(own[set]) - scoreOf(base[set])) < SAME)
    return [{ name, report, ...(same ? {} : { warning: `${name}: its zero-shot scores are others; model, sets or prompts differ` }) }]
  })
}

export function tradeOff(run: Run, changes: readonly SetChange[], verdict: Verdict, others: readonly Compared[]): Markup {
  if (!run.report || changes.length === 0) return html``
  const chart = verdict.learned.length > 0 && verdict.kept.length > 0 && tradeOffFigure(run.report, verdict, others)
  return html`<section id="kept"><h2>Learned and kept</h2>
${chart}
${scoreTable(run.report, changes, others)}
<p class="fine">Percent: top-1 accuracy${changes.some(({ task }) => task === 'retrieval') && ', or R@1 (mean of both ways) where captions are retrieved'}; in small print the difference to zero-shot in points. Test and out-of-distribution sets choose nothing.</p>
${others.flatMap(({ warning }) => (warning === undefined ? [] : [html`<p class="notice">${warning}</p>`]))}
</section>`
}

const ROLES = { validation: 'validation', test: 'test', ood: 'out of distribution', captions: 'retrieval' }

interface Row {
  readonly title: string
  readonly alpha: number
  readonly scores: Readonly<Record<string, number>>
  /** Another run's name. */
  readonly run?: string
}

const ownRows = ({ results }: RunReport): Row[] =>
  results.map(({ name: title, alpha, evaluation }) => ({
    title: alpha === 0 ? 'Zero-shot' : title,
    alpha,
    scores: Object.fromEntries(Object.entries(evaluation).map(([set, result]) => [set, scoreOf(result)])),
  }))

/** What another run shows: its models but zero-shot, and WiSE-FT where validation chose the fine-tuned model itself. */
function otherRows({ name: run, report }: Compared): Row[] {
  const rows = ownRows(report).filter(({ alpha }) => alpha !== 0)
  const middle = isFull({ report }) ? report.curve.find(({ alpha }) => alpha === middleOf(report)) : undefined
  if (middle && rows.every(({ alpha }) => alpha !== middle.alpha))
    rows.unshift({ ...middle, title: `${rows[0]?.title ?? report.method} + WiSE-FT` })
  return rows.map((row) => ({ ...row, run }))
}

function scoreTable(report: RunReport, changes: readonly SetChange[], others: readonly Compared[]): Markup {
  const own = ownRows(report)
  const zero = own.find(({ alpha }) => alpha === 0)?.scores
  const cells = ({ title, alpha, scores, run }: Row) => [
    html`${title} <small>α ${String(Number(alpha.toFixed(3)))}${run !== undefined && html` · ${name(shorten(run, 30))}`}</small>`,
    ...changes.map(({ name: set }) => {
      const [score, before] = [scores[set], zero?.[set]]
      if (score === undefined) return '–'
      const difference = alpha === 0 || before === undefined ? undefined : score - before
      return html`${percent(score)}${difference !== undefined && html` <small>${points(difference)}</small>`}`
    }),
  ]
  const strong = own.findIndex(({ alpha }) => alpha === report.alpha?.value)
  const head = ['Model', ...changes.map(({ name: set, role }) => html`${name(shorten(set, 30))}<br><small>${ROLES[role]}</small>`)]
  return table(head, [...own, ...others.flatMap(otherRows)].map(cells), { strong: strong > 0 ? [strong] : [] })
}

type Curve = RunReport['curve']

const isFull = ({ report: { method } }: Pick<Compared, 'report'>): boolean => method === 'full' || method === 'flyp'

/** α of WiSE-FT: that of validation, or where it chose the fine-tuned model itself, the paper's. */
const middleOf = ({ alpha }: RunReport): number => (alpha === undefined || alpha.value === 1 ? 0.5 : alpha.value)

function tradeOffFigure(report: RunReport, { learned, kept }: Verdict, others: readonly Compared[]): Markup | undefined {
  const [xs, ys] = [learned, kept].map((sets) => sets.map((set) => set.name))
  const track = (curve: Curve, marks: ReadonlyMap<number | undefined, Mark>, own: boolean): Track => ({
    own,
    data: curve.flatMap(({ alpha, scores }) => {
      const [x, y] = [xs, ys].map((sets) => mean(sets.map((set) => scores[set] ?? Number.NaN)))
      const mark = marks.get(alpha)
      return Number.isFinite(x) && Number.isFinite(y) ? [{ alpha, x, y, ...(mark ? { mark } : {}) }] : []
    }),
  })
  const end: Mark = isFull({ report }) ? 'full' : 'adapter'
  const own = track(
    report.curve,
    new Map([
      [0, 'zero-shot'],
      [1, end],
      [report.alpha?.value, 'chosen'],
    ]),
    true,
  )
  if (own.data.length < 2) return undefined
  const tracks = [own]
  for (const other of others) {
    const [middle, last]: [Mark, Mark] = isFull(other) ? ['wise-ft', 'full'] : ['adapter', 'adapter']
    tracks.push(
      track(
        other.report.curve,
        new Map([
          [middleOf(other.report), middle],
          [1, last],
        ]),
        false,
      ),
    )
  }
  const axes = [learned, kept].map((sets) => (sets.length === 1 ? sets[0].name : `mean of ${sets.length} sets`))
  const label = `${axes[0]} against ${axes[1]} (out of distribution) at ${own.data.length} values of α; ${own.data
    .map(({ alpha, x, y }) => `α ${alpha}: ${percent(x)} and ${percent(y)} %`)
    .join('; ')}`
  const option = () => tradeOffChart(tracks, [axes[0], `${axes[1]}, out of distribution`])
  return figure({ id: 'trade-off', label, height: 340, legend: legend(report, end, others), option, table: curveTable(report.curve) })
}

function legend({ alpha, method }: RunReport, end: Mark, others: readonly Compared[]): Markup {
  const full = others.filter(isFull)
  const rest = others.filter((other) => !isFull(other))
  const wise = [...new Set(full.map((other) => String(middleOf(other.report))))]
  return html`<ul class="legend">
<li>${marker('zero-shot')} zero-shot, α 0</li>
<li>${marker('chosen')} ${methodName(method)}, α ${String(Number((alpha?.value ?? 1).toFixed(3)))}: the merged model</li>
${alpha?.value !== 1 && html`<li>${marker(end)} ${methodName(method)}, α 1</li>`}
${full.length > 0 && html`<li>${marker('full')} full fine-tuning, α 1</li><li>${marker('wise-ft')} WiSE-FT, α ${list(wise)}</li>`}
${rest.length > 0 && html`<li>${marker('adapter')} ${list(rest.map((other) => name(shorten(other.name, 40))))}</li>`}
</ul>`
}

function curveTable(curve: Curve): Markup {
  const sets = Object.keys(curve[0]?.scores ?? {})
  const rows = curve.map(({ alpha, scores }) => [
    String(Number(alpha.toFixed(3))),
    ...sets.map((set) => percent(scores[set] ?? Number.NaN)),
  ])
  return table(['α', ...sets.map((set) => name(shorten(set, 30)))], rows)
}

/** The symbol of the chart, for its legend. */
function marker(mark: Mark): Markup {
  const { symbol, color } = MARKS[mark]
  const shapes: Readonly<Record<string, string>> = {
    diamond: 'M7 0L14 7L7 14L0 7Z',
    circle: 'M7 1A6 6 0 1 1 7 13A6 6 0 1 1 7 1Z',
    rect: 'M2 2H12V12H2Z',
    triangle: 'M7 1L13 13H1Z',
  }
  return html`<svg class="mark" viewBox="0 0 14 14" aria-hidden="true"><path d="${shapes[symbol]}" fill="${color}"/></svg>`
}
