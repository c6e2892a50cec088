/** The page as a whole: one file, no script, no address outside; a policy in it forbids both. */
import { setChanges, verdictOf } from './changes.js'
import { facts } from './facts.js'
import { head } from './head.js'
import { html, Markup } from './markup.js'
import type { Run } from './run-folder.js'
import { setSections } from './set-section.js'
import { STYLE } from './style.js'
import { makeThumbnails } from './thumbnails.js'
import { comparable, tradeOff } from './trade-off.js'
import { training } from './training.js'

export interface PageOptions {
  /** Runs to compare with. */
  readonly others: readonly Run[]
  /** Whether images are shown. */
  readonly pictures: boolean
}

/** The same bytes for the same folder. */
export async function page(run: Run, { others, pictures }: PageOptions): Promise<string> {
  const changes = setChanges(run)
  const verdict = verdictOf(changes)
  const thumbnails = await makeThumbnails(changes, pictures)
  const { text } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="generator" content="cambium">
<title>${run.name} · Cambium report</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
<main>
${head(run, verdict)}
${tradeOff(run, changes, verdict, comparable(run, others))}
${training(run)}
${setSections(changes, thumbnails)}
${facts(run)}
<footer><p class="fine">Made by Cambium from report.json, events.jsonl and predictions.jsonl beside it; <code>cambium report</code> makes it again.</p></footer>
</main>
</body>
</html>
`
  return text
}
