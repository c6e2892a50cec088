/** The page of a run as a whole. */
import { setChanges, verdictOf } from './changes.js'
import { documentOf } from './document.js'
import { facts } from './facts.js'
import { head } from './head.js'
import { html } from './markup.js'
import type { Run } from './run-folder.js'
import { setSections } from './set-section.js'
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
  const body = html`${head(run, verdict)}
${tradeOff(run, changes, verdict, comparable(run, others))}
${training(run)}
${setSections(changes, thumbnails)}
${facts(run)}
<footer><p class="fine">Made by Cambium from report.json, events.jsonl and predictions.jsonl beside it; <code>cambium report</code> makes it again.</p></footer>`
  return documentOf({ title: `${run.name} · Cambium report`, body })
}
