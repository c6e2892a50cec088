/** `report.html` of runs over a stream of tasks: what each method learned, and what it kept. */
import { join } from 'node:path'
import type { LearnReport } from '../continual/learn-report.js'
import { aboveChance } from '../continual/metrics.js'
import { CambiumError } from '../errors.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { documentOf } from './document.js'
import { costTable, settingsSection, taskTable } from './learn-cost.js'
import { curveFigure, legend } from './learn-curves.js'
import { lastPart, learnHead } from './learn-head.js'
import { accuracyMap, largestChange } from './learn-heat-map.js'
import { type LearnMethod, type LearnSet, methodsOf, setsOf } from './learn-methods.js'
import { leftOutNote, scoreTable } from './learn-scores.js'
import { selectionSection, selects } from './learn-selection.js'
import { LEARN_STYLE } from './learn-style.js'
import { html, type Markup } from './markup.js'
import { REPORT_FILE } from './write-report.js'

/**
 * Writes `report.html` into the folder of runs; the same bytes for the same runs.
 * @param runs of the same tasks in the same order: methods by their labels, seeds of each
 * @param out default `report.html` in the folder
 * @returns the file
 * @throws E_OPTION for no run, E_IO, E_NO_SPACE
 */
export async function writeLearnReport(folder: string, runs: readonly LearnReport[], out = join(folder, REPORT_FILE)): Promise<string> {
  if (runs.length === 0) throw new CambiumError('E_OPTION', 'runs: expected at least one, got none')
  await writeFileAtomic(out, learnPage(lastPart(folder), runs))
  return out
}

export function learnPage(title: string, runs: readonly LearnReport[]): string {
  const methods = methodsOf(runs)
  const sets = setsOf(methods)
  const body = html`${learnHead(title, methods, sets)}
${scores(methods, sets)}
${maps(methods, sets)}
${curves(methods, sets)}
${selection(methods, sets)}
<section id="cost"><h2>What it took</h2>
${costTable(methods)}
<p class="fine">Means over seeds; memory is the peak of the core in any run. Parameters kept are what a finished run needs beside the pretrained model.</p>
</section>
<section id="sets"><h2>The sets</h2>
${taskTable(methods, sets)}
</section>
<section id="facts"><h2>How it was made</h2>
${settingsSection(methods)}
</section>
<footer><p class="fine">Made by Cambium ${runs[0].cambium} from learn.json of ${String(runs.length)} ${runs.length === 1 ? 'run' : 'runs'}; <code>cambium report</code> makes it again.</p></footer>`
  return documentOf({ title: `${title} · Cambium report`, body, style: LEARN_STYLE })
}

function scores(methods: readonly LearnMethod[], sets: readonly LearnSet[]): Markup {
  const [{ runs }] = methods
  const among = aboveChance(runs[0])
  const watched = sets.filter(({ task }) => task === null)
  const union = methods.some((method) =>
    method.runs.some(({ stages }) => stages.some((stage) => Object.values(stage.sets).some((set) => set.union !== undefined))),
  )
  const own = scoreTable(methods, 'own', among, watched)
  const seeds = Math.max(...methods.map((method) => method.runs.length))
  return html`<section id="scores"><h2>Learned and kept</h2>
${union && html`<h3>Among each set’s own classes</h3>`}
${own}
${union && html`<h3>Among the classes of all sets</h3>${scoreTable(methods, 'union', among)}`}
<p class="fine">Percent, top-1${seeds > 1 && html`, mean ± standard deviation over seeds; bold is ahead of every other method that learns task by task by more than the two deviations together`}. Transfer: accuracy on what was not learned yet, mean over the stages before. Avg: mean over all stages. Last: at the end (Zheng et al. 2023). ${watched.length > 0 && 'Knew before: the watched sets at the end. '}Forgetting: best so far less the end (Chaudhry et al. 2018). Backward: the end less right after learning; Forward: right before learning less zero-shot (Lopez-Paz & Ranzato 2017). ${leftOutNote(runs[0])}</p>
</section>`
}

function maps(methods: readonly LearnMethod[], sets: readonly LearnSet[]): Markup {
  const largest = largestChange(methods, sets)
  const one = methods.length === 1
  return html`<section id="maps"><h2>Every set after every task</h2>
<ul class="legend"><li><span class="swatch hot"></span> above the pretrained model</li><li><span class="swatch cold"></span> below it; full colour is ${(100 * largest).toFixed(0)} points</li>
<li><span class="swatch own"></span> just learned</li><li><span class="swatch before"></span> not learned yet</li></ul>
<div class="${one ? 'wide-cells' : 'pair'}">${methods.map((method) => html`<div>${accuracyMap(method, sets, largest, !one)}</div>`)}</div>
<p class="fine">Percent among each set’s own classes, mean over seeds. Above the framed diagonal nothing was learned of the set: the colour there is what the method did to what pretraining knew. Below it, it is what was learned and not forgotten.</p>
</section>`
}

function curves(methods: readonly LearnMethod[], sets: readonly LearnSet[]): Markup {
  const drawn = (of: readonly LearnSet[]) =>
    of.length === 1
      ? html`<h4>${of[0].name}</h4>${curveFigure(of[0], methods, false)}`
      : html`<div class="pair">${of.map((set) => html`<div><h4>${set.name}</h4>${curveFigure(set, methods, true)}</div>`)}</div>`
  const watched = sets.filter(({ task }) => task === null)
  return html`<section id="curves"><h2>Stage by stage</h2>
${legend(methods)}
<p class="fine">Accuracy by the number of tasks learned; 0 is the pretrained model. The grey bar is where the set itself was learned.</p>
${watched.length > 0 && html`<h3>What pretraining knew: never learned, looked at after every task</h3>${drawn(watched)}<h3>What was learned</h3>`}
${drawn(sets.filter(({ task }) => task !== null))}
</section>`
}

function selection(methods: readonly LearnMethod[], sets: readonly LearnSet[]): Markup {
  const selecting = methods.filter(selects)
  if (selecting.length === 0) return html``
  return html`<section id="selection"><h2>What was chosen for what</h2>
${selecting.map((method) => selectionSection(method, sets, `weights-${method.place}`))}
<p class="fine">Each image is given one task’s parameters with a weight between 0, the pretrained model itself, and 1. Weights of all stages after the first task, tasks of the last stage; all seeds.</p>
</section>`
}
