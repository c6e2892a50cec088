/** The top of the page: what was learned and what was kept, first in a sentence, then in figures. */
import { formatBytes } from '../train/estimate.js'
import { directionOf, meanChange, type ScoreChange, type SetChange, type Verdict } from './changes.js'
import { type Content, html, list, type Markup, name, shorten } from './markup.js'
import { count, date, duration, median, percent, points } from './numbers.js'
import type { Run } from './run-folder.js'

export function head(run: Run, verdict: Verdict): Markup {
  const { report, log, state } = run
  const method = report ? methodName(report.method) : String(state?.settings.method ?? 'training')
  const when = log && log.began > 0 ? html`<time>${date(log.began)}</time>` : undefined
  return html`<header>
<p class="kicker">${name(run.name)} · ${method}${when && html` · ${when}`}</p>
<h1>${answer(run, verdict)}</h1>
${sentences(verdict)}
${tiles(run)}
${run.problems.length > 0 && html`<aside class="notice" role="note"><h2>Parts of this run are missing</h2><ul>${run.problems.map((problem) => html`<li>${problem}</li>`)}</ul></aside>`}
</header>`
}

const METHODS: Readonly<Record<string, string>> = { 'r-adapter': 'R-Adapter', full: 'full fine-tuning', flyp: 'FLYP', lora: 'LoRA' }
export const methodName = (method: string): string => METHODS[method] ?? method

function answer({ report, log }: Run, { learned, kept }: Verdict): Markup {
  if (!report) {
    const at = log ? ` after ${count(log.steps.length)} of ${count(log.planned)} steps` : ''
    return html`Not finished${at}`
  }
  if (report.alpha?.value === 0) return html`Left as it was: α is 0`
  if (learned.length === 0 && kept.length === 0) return html`Trained for ${count(report.steps)} steps; no set to measure on`
  const gain = learned.length > 0 && amount(meanChange(learned), 'Learned', 'Lost', 'Learned nothing measurable')
  const hold = kept.length > 0 && amount(meanChange(kept), 'gained', 'lost', 'lost nothing measurable')
  if (!gain) return html`Out of distribution: ${hold}`
  return html`${gain} on ${setNames(learned)}${hold && html`, <span class="second">${hold} out of distribution</span>`}`
}

/** `Learned +1.9 points`, or words where the change is within its interval. */
function amount(change: ScoreChange, up: string, down: string, level: string): Markup {
  const direction = directionOf(change)
  if (direction === 'held') return html`${level}`
  const size = percent(Math.abs(change.after - change.before))
  return html`${direction === 'rose' ? up : down} <strong class="${direction}">${size}</strong> points`
}

const setNames = (sets: readonly SetChange[]): Markup =>
  sets.length > 3 ? html`${sets.length} sets` : list(sets.map((set) => name(shorten(set.name, 60))))

const VERBS = { rose: 'rose from', fell: 'fell from', held: 'did not change measurably:' }

function sentences({ learned, kept }: Verdict): Markup {
  const tell = (sets: readonly SetChange[], where: Content) => {
    const change = meanChange(sets)
    const { before, after, margin } = change
    const direction = directionOf(change)
    const difference = html`${points(after - before)} ± ${percent(margin)}`
    const measure = sets.every(({ task }) => task === 'classification') ? 'Top-1 accuracy' : 'R@1 (mean of both ways)'
    const middle =
      direction === 'held'
        ? html`${percent(before)} % before, ${percent(after)} % after`
        : html`${percent(before)} % to ${percent(after)} %`
    return html`<p>${measure} on ${where} ${VERBS[direction]} ${middle} (${difference} points).</p>`
  }
  const only = learned[0]?.role === 'validation'
  return html`<div class="lead">${learned.length > 0 && tell(learned, html`${setNames(learned)}${only && ' (which chose α)'}`)}
${kept.length > 0 && tell(kept, html`${kept.length > 1 && 'the mean of '}${setNames(kept)}, out of distribution,`)}
${learned.length + kept.length > 0 && html`<p class="fine">Before: the pretrained model, zero-shot. After: the merged model. ± is half of a 95 % interval, from images that changed sides.</p>`}</div>`
}

function tiles({ report, log }: Run): Markup {
  const speed = log && log.steps.length > 0 ? median(log.steps.map(({ imagesPerSecond }) => imagesPerSecond)) : undefined
  const chosen: Readonly<Record<string, string>> = { validation: 'chosen on validation', option: 'as given', default: 'the paper’s' }
  const facts: [string, string, string][] = []
  if (report?.alpha) facts.push(['α', String(Number(report.alpha.value.toFixed(3))), chosen[report.alpha.by] ?? report.alpha.by])
  if (log)
    facts.push(['training', duration(log.seconds), `${count(log.steps.length)} steps${log.parts > 1 ? ` in ${log.parts} parts` : ''}`])
  if (speed !== undefined) facts.push(['speed', `${Number(speed.toPrecision(3))}`, 'images a second, median'])
  if (log && log.peakBytes > 0)
    facts.push(['peak memory', formatBytes(log.peakBytes), report ? `estimated ${formatBytes(report.estimatedBytes)}` : ''])
  if (report) facts.push(['trained', millions(report.trainable), `parameters, on ${count(report.images.train)} images`])
  return html`<dl class="tiles">${facts.map(([what, value, note]) => html`<div><dt>${what}</dt><dd>${value}</dd><dd class="note">${note}</dd></div>\n`)}</dl>`
}

const millions = (value: number): string => (value >= 1e6 ? `${(value / 1e6).toPrecision(3)} M` : count(value))
