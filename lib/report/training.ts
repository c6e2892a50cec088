/** Loss and learning rate. */
import { lossChart, rateChart } from './charts.js'
import { figure } from './figure.js'
import { html, type Markup, table } from './markup.js'
import { count, figure as number } from './numbers.js'
import type { Run } from './run-folder.js'

/** Rows of the table of a curve. */
const ROWS = 25

export function training({ log }: Run): Markup {
  if (!log || log.steps.length === 0) return html`<section id="training"><h2>Training</h2><p>No step is in the log.</p></section>`
  const { steps, warnings } = log
  const [first, last] = [steps[0], steps[steps.length - 1]]
  const stride = Math.max(1, Math.ceil(steps.length / ROWS))
  const shown = steps.filter(({ step }) => step === 1 || step % stride === 0 || step === last.step)
  const numbers = (value: 'loss' | 'lr', name: string) =>
    table(
      ['step', name],
      shown.map((event) => [count(event.step), number(event[value])]),
    )
  const loss = `Loss by step: ${number(first.loss)} at step 1, ${number(last.loss)} at step ${last.step}`
  const peak = Math.max(...steps.map(({ lr }) => lr))
  const rate = `Learning rate by step: at most ${number(peak)}, ${number(last.lr)} at step ${last.step}`
  return html`<section id="training"><h2>Training</h2>
<div class="pair">
<div><h3>Loss</h3>${figure({ id: 'loss', label: loss, height: 220, option: () => lossChart(steps), table: numbers('loss', 'loss'), half: true })}</div>
<div><h3>Learning rate</h3>${figure({ id: 'rate', label: rate, height: 220, option: () => rateChart(steps), table: numbers('lr', 'learning rate'), half: true })}</div>
</div>
${warnings.map((warning) => html`<p class="notice">${warning}</p>`)}
</section>`
}
