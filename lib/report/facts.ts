/** Settings, environment, files, images left out: what one needs to make the run again, and to believe it. */
import { formatBytes } from '../train/estimate.js'
import { type Content, html, type Markup, name, shorten, table } from './markup.js'
import { count } from './numbers.js'
import type { Run } from './run-folder.js'

/** Names of images left out that are listed. */
const MOST_SKIPPED = 50

export function facts(run: Run): Markup {
  return html`<section id="facts"><h2>How it was made</h2>
<div class="pair"><div><h3>Settings</h3>${settings(run)}</div><div><h3>Environment</h3>${environment(run)}${files(run)}</div></div>
${skipped(run)}
</section>`
}

function settings({ report, state }: Run): Markup {
  const rows: [Content, Content][] = report ? [['model', report.model]] : []
  for (const [key, value] of Object.entries(state?.settings ?? {})) if (value !== null && value !== undefined) rows.push([key, say(value)])
  if (rows.length === 0) return html`<p>None are recorded.</p>`
  return table(['setting', 'value'], rows)
}

function say(value: unknown): string {
  if (typeof value === 'string') return shorten(value, 120)
  return typeof value === 'number' ? String(value) : shorten(JSON.stringify(value), 120)
}

function environment({ report, log }: Run): Markup {
  const rows: [Content, Content][] = []
  for (const [key, value] of Object.entries(report?.environment ?? {}))
    rows.push([key, key === 'memory' ? formatBytes(Number(value)) : value])
  if (report) rows.push(['products in', report.dtype])
  if (log && log.peakBytes > 0) rows.push(['peak of the core', formatBytes(log.peakBytes)])
  if (log && log.parts > 1) rows.push(['parts', `${log.parts}: stopped and resumed`])
  return rows.length === 0 ? html`<p>Not recorded.</p>` : table(['', ''], rows)
}

function files({ report }: Run): Markup {
  const entries = Object.entries(report?.files ?? {})
  if (entries.length === 0) return html``
  return html`<h3>Files</h3>${table(
    ['what', 'where'],
    entries.map(([what, where]) => [what, name(where)]),
  )}`
}

function skipped({ report, log }: Run): Markup {
  const images = log?.skipped ?? []
  const times = report?.skipped ?? 0
  if (images.length === 0 && times === 0) return html``
  const rows = images.slice(0, MOST_SKIPPED).map(({ image, reason }) => [name(shorten(image, 160)), name(shorten(reason, 160))])
  return html`<h3>Images left out</h3>
<p class="fine">${count(images.length)} ${images.length === 1 ? 'image' : 'images'} could not be read${times > 0 && `; in training they came up ${count(times)} times`}.</p>
${rows.length > 0 && table(['image', 'why'], rows)}
${images.length > MOST_SKIPPED && html`<p class="fine">${count(images.length - MOST_SKIPPED)} more are in events.jsonl.</p>`}`
}
