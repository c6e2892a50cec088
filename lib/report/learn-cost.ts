/** What the methods took, on what they learned, and the settings that make them again. */
import { formatBytes } from '../train/estimate.js'
import { marker } from './learn-curves.js'
import { accuracy, type LearnMethod, type LearnSet, spreadOf } from './learn-methods.js'
import { type Content, html, type Markup, name, shorten, table } from './markup.js'
import { count, duration, percent } from './numbers.js'

export function costTable(methods: readonly LearnMethod[]): Markup {
  const rows = methods.map(({ label, place, runs }) => {
    const tasks = runs.map((run) => run.tasks)
    const seconds = spreadOf(tasks.map((list) => sum(list.map((task) => task.seconds))))
    const steps = spreadOf(tasks.map((list) => sum(list.map((task) => task.steps))))
    return [
      html`${marker(place)} ${name(shorten(label, 28))}`,
      million(Math.max(...tasks.flatMap((list) => list.map((task) => task.trained)), 0)),
      million(runs[0].parameters),
      steps === undefined ? '–' : count(steps.mean),
      seconds === undefined ? '–' : duration(seconds.mean),
      formatBytes(Math.max(...runs.map(({ peakBytes }) => peakBytes))),
    ]
  })
  return table(['Method', 'trained at once', 'kept in all', 'steps', 'time of training', 'peak memory'], rows)
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
const million = (parameters: number): string => (parameters >= 1e6 ? `${(parameters / 1e6).toPrecision(3)} M` : count(parameters))

/** The stream: sizes of the sets, and what the pretrained model makes of them. */
export function taskTable(methods: readonly LearnMethod[], sets: readonly LearnSet[]): Markup {
  const longest = methods.flatMap(({ runs }) => runs).reduce((most, run) => (run.tasks.length > most.tasks.length ? run : most))
  const rows = sets.map(({ name: set, index, task, classes, images }) => {
    const learned = task === null ? undefined : longest.tasks[task]
    const zeroShot = spreadOf(methods.map((method) => accuracy(method, 0, index)?.mean))
    return [
      html`${task === null ? 'watched' : `${task + 1}.`} ${name(shorten(set, 30))}`,
      count(classes),
      learned === undefined ? '–' : count(learned.train),
      learned === undefined ? '–' : count(learned.validation),
      count(images),
      percent(1 / classes),
      zeroShot === undefined ? '–' : percent(zeroShot.mean),
    ]
  })
  return table(['Set', 'classes', 'train', 'validation', 'test', 'chance %', 'zero-shot %'], rows)
}

export function settingsSection(methods: readonly LearnMethod[]): Markup {
  return html`${methods.map(
    ({
      label,
      method,
      runs,
    }) => html`<details class="set"><summary><h3>${name(shorten(label, 40))}</h3> <small>${name(method)}, ${runs.length === 1 ? `seed ${runs[0].seed}` : `seeds ${runs.map(({ seed }) => seed).join(', ')}`}</small></summary>
${settingsTable(runs[0].settings)}</details>`,
  )}`
}

function settingsTable({ tried, ...settings }: Readonly<Record<string, unknown>>): Markup {
  const rows = Object.entries(settings)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]): [Content, Content] => [name(key), say(value)])
  const listed = rows.length === 0 ? html`<p>None are recorded.</p>` : table(['setting', 'value'], rows)
  return html`${listed}${triedTable(tried)}`
}

const say = (value: unknown): string => shorten(typeof value === 'string' ? value : JSON.stringify(value), 240)

/** Settings that validation chose among, with what they scored on it. */
function triedTable(tried: unknown): Markup {
  const entries = (Array.isArray(tried) ? tried : []).flatMap((entry: { settings?: unknown; validation?: unknown } | null) =>
    typeof entry?.validation === 'number' ? [{ settings: say(entry.settings ?? {}), validation: entry.validation }] : [],
  )
  if (entries.length === 0) return html``
  const best = entries.reduce((most, { validation }, i) => (validation > entries[most].validation ? i : most), 0)
  return html`<h4>Tried on validation images, with the first seed</h4>${table(
    ['settings', 'accuracy %'],
    entries.map(({ settings, validation }) => [name(settings), percent(validation)]),
    { strong: [best] },
  )}`
}
