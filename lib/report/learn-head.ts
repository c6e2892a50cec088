/** The top of the page: what the model is worth on what it was taught, and what it kept; first in a sentence, then in figures. */

import { accuracyMatrix } from '../continual/metrics.js'
import { accuracy, focus, type LearnMethod, type LearnSet, percents, type Spread, spreadOf, stageCount } from './learn-methods.js'
import { kept } from './learn-scores.js'
import { html, list, type Markup, name, shorten } from './markup.js'
import { count, duration, mean, percent, points } from './numbers.js'

/** The same sets before and after: where the pretrained model stood, where the method ended. */
interface Change {
  readonly before: Spread
  readonly after: Spread
  /** how many */
  readonly sets: number
}

export function learnHead(title: string, methods: readonly LearnMethod[], sets: readonly LearnSet[]): Markup {
  const shown = focus(methods)
  const { protocol } = shown.runs[0]
  const other = methods.find(({ method }) => method === 'sequential')
  return html`<header>
<p class="kicker">${name(title)} · ${protocol} · ${name(lastPart(shown.runs[0].model))}</p>
<h1>${answer(shown, sets)}</h1>
<div class="lead">${sentence(shown, sets)}${other !== undefined && other !== shown && sentence(other, sets)}</div>
${tiles(methods, sets)}
${unfinished(methods)}
</header>`
}

/** The name of a file or folder. */
export const lastPart = (path: string): string =>
  path
    .split(/[\\/]/)
    .filter((part) => part !== '' && part !== '.')
    .at(-1) ?? path

/** Over the tasks that were looked at both before the first and after the last: a run that was continued may lack some. */
function learnedChange({ runs }: LearnMethod): Change | undefined {
  const ends = runs.map((run) => {
    const { rows, images } = accuracyMatrix(run)
    const [before, after] = [rows[0], rows[images.length]]
    const both = images.flatMap((_, i) => (before?.[i] === undefined || after?.[i] === undefined ? [] : [[before[i], after[i]]]))
    return both.length === 0 ? undefined : { before: mean(both.map(([a]) => a)), after: mean(both.map(([, b]) => b)), sets: both.length }
  })
  const [before, after] = [spreadOf(ends.map((end) => end?.before)), spreadOf(ends.map((end) => end?.after))]
  return pair(before, after, Math.max(...ends.map((end) => end?.sets ?? 0)))
}

function keptChange(method: LearnMethod, sets: readonly LearnSet[]): Change | undefined {
  const watched = sets.filter(({ task }) => task === null)
  const before = watched.map(({ index }) => accuracy(method, 0, index)?.mean)
  if (before.length === 0 || before.some((value) => value === undefined)) return undefined
  return pair({ mean: mean(before as number[]), count: 1 }, kept(method, watched), watched.length)
}

const pair = (before: Spread | undefined, after: Spread | undefined, sets: number): Change | undefined =>
  before === undefined || after === undefined ? undefined : { before, after, sets }

/** What seeds, or half a point where there is one seed, cannot tell apart. */
const noise = ({ after: { sd } }: Change): number => Math.max(sd ?? 0.005, 0.0005)
const directionOf = (change: Change): 'rose' | 'fell' | 'held' => {
  const difference = change.after.mean - change.before.mean
  return Math.abs(difference) <= noise(change) ? 'held' : difference > 0 ? 'rose' : 'fell'
}

function answer(method: LearnMethod, sets: readonly LearnSet[]): Markup {
  const [learned, knew] = [learnedChange(method), keptChange(method, sets)]
  const done = stageCount([method]) - 1
  const planned = sets.filter(({ task }) => task !== null).length
  if (learned === undefined) return html`${name(shorten(method.label, 30))}: ${done} of ${planned} tasks so far`
  const counted = learned.sets === planned ? String(planned) : `${learned.sets} of ${planned}`
  const tasks = `${counted} ${planned === 1 ? 'task' : 'tasks'}`
  return html`${name(shorten(method.label, 30))}: ${amount(learned, 'gained', 'lost', 'gained nothing')} on ${tasks}${knew && html`, <span class="second">${amount(knew, 'gained', 'lost', 'lost nothing')} of what it knew before</span>`}`
}

function amount(change: Change, up: string, down: string, level: string): Markup {
  const direction = directionOf(change)
  if (direction === 'held') return html`${level}`
  return html`${direction === 'rose' ? up : down} <strong class="${direction}">${percent(Math.abs(change.after.mean - change.before.mean))}</strong> points`
}

function sentence(method: LearnMethod, sets: readonly LearnSet[]): Markup {
  const [learned, knew] = [learnedChange(method), keptChange(method, sets)]
  if (learned === undefined && knew === undefined) return html``
  const watched = sets.filter(({ task }) => task === null).map((set) => name(shorten(set.name, 30)))
  const difference = ({ before, after }: Change) => points(after.mean - before.mean)
  const first = learned && html`${percents(learned.after)} % on the tasks at the end (${difference(learned)} from zero-shot)`
  const second = knew && html`${percents(knew.after)} % on ${list(watched)} (${difference(knew)})`
  return html`<p><b>${name(shorten(method.label, 30))}</b>: ${list([first, second].filter((part) => part !== undefined))}.</p>`
}

/** Runs that lack stages: what the page says of them is not their last word. */
function unfinished(methods: readonly LearnMethod[]): Markup {
  const short = methods.flatMap(({ runs }) =>
    runs.filter(({ stages, sets }) => stages.length <= sets.filter(({ task }) => task !== null).length),
  )
  if (short.length === 0) return html``
  const told = short.map(
    ({ label, seed, stages }) => html`<li>${name(shorten(label, 40))}, seed ${seed}: ${stages.length - 1} tasks learned</li>`,
  )
  return html`<aside class="notice" role="note"><h2>Runs that are not finished</h2><ul>${told}</ul></aside>`
}

function tiles(methods: readonly LearnMethod[], sets: readonly LearnSet[]): Markup {
  const runs = methods.flatMap((method) => method.runs)
  const tasks = sets.filter(({ task }) => task !== null)
  const seeds = Math.max(...methods.map((method) => method.runs.length))
  const shown = focus(methods)
  const training = spreadOf(shown.runs.map((run) => run.tasks.reduce((sum, task) => sum + task.seconds, 0)))
  const facts: [string, string, string][] = [
    ['tasks', String(tasks.length), `${count(tasks.reduce((sum, set) => sum + set.classes, 0))} classes`],
    ['methods', String(methods.length), `${seeds} ${seeds === 1 ? 'seed' : 'seeds'}, ${runs.length} ${runs.length === 1 ? 'run' : 'runs'}`],
    [
      'trained',
      count(Math.max(...shown.runs.flatMap((run) => run.tasks.map((task) => task.trained)), 0)),
      `parameters a task, ${shown.label}`,
    ],
  ]
  if (training !== undefined) facts.push(['training', duration(training.mean), `of one run, ${shown.label}`])
  return html`<dl class="tiles">${facts.map(([what, value, note]) => html`<div><dt>${what}</dt><dd>${value}</dd><dd class="note">${note}</dd></div>\n`)}</dl>`
}
