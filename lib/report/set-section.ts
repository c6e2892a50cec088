/** One set: its classes, the images gained and lost, the confusions; or the ranks of its captions. */
import { type ClassChange, type Confusion, classChanges, directionOf, type SetChange } from './changes.js'
import { classChart } from './charts.js'
import { figure } from './figure.js'
import { html, Markup, name, shorten, table } from './markup.js'
import { count, mean, percent, points, signed } from './numbers.js'
import { THUMBNAIL_SIDE, type Thumbnail, type Thumbnails } from './thumbnails.js'

/** Classes of the chart at each end, pairs of the table of confusions, rows of the table of all classes. */
const ENDS = 8
const PAIRS = 12
const MOST_ROWS = 1000
/** Below so many images a class, its accuracy says less than the images themselves. */
const FEWEST_IMAGES = 3

export function setSections(changes: readonly SetChange[], thumbnails: Thumbnails): Markup {
  if (changes.length === 0) return html``
  const order = { test: 0, captions: 1, ood: 2, validation: 3 }
  const sorted = changes
    .map((change, index) => ({ change, index }))
    .sort((a, b) => order[a.change.role] - order[b.change.role] || a.index - b.index)
  return html`<section id="sets"><h2>Set by set</h2>
${sorted.map(({ change, index }, place) => setSection(change, index, place === 0, thumbnails))}
${thumbnails.missing > 0 && html`<p class="fine">${thumbnails.missing} images could not be read again and are shown by name.</p>`}
</section>`
}

function setSection(change: SetChange, index: number, open: boolean, thumbnails: Thumbnails): Markup {
  const { before, after, margin, evaluations } = change
  const size = evaluations.after.task === 'classification' ? evaluations.after.count : evaluations.after.images
  const left = evaluations.after.skipped
  const summary = html`<h3>${name(shorten(change.name, 60))}</h3> <span class="${directionOf(change)}">${percent(before)} → ${percent(after)} %</span> <small>${points(after - before)} ± ${percent(margin)} points, ${count(size)} images</small>`
  const body = change.task === 'classification' ? classification(change, index) : retrieval(change)
  return html`<details class="set"${open && new Markup(' open')}><summary>${summary}</summary>
${left > 0 && html`<p class="notice">${left} broken ${left === 1 ? 'image' : 'images'} left out.</p>`}
${body}
${imagesOf(change, thumbnails)}
${confusions(change.confusions)}
</details>`
}

function classification(change: SetChange, index: number): Markup {
  const classes = classChanges(change)
  const { after, before } = change.evaluations
  if (after.task !== 'classification' || before.task !== 'classification' || classes.length === 0) return html``
  const facts = html`<p class="fine">Top-5 ${percent(before.top5)} → ${percent(after.top5)} %; mean of the classes’ own accuracies ${percent(before.meanPerClass)} → ${percent(after.meanPerClass)} %.</p>`
  const all = classTable(classes)
  if (mean(classes.map((each) => each.count)) < FEWEST_IMAGES)
    return html`${facts}<details><summary>All ${count(classes.length)} classes</summary>${all}</details>`
  const [ups, downs] = [classes.filter((each) => each.after > each.before), classes.filter((each) => each.after < each.before)]
  const shown = [...ups.slice(0, ENDS), ...downs.slice(-ENDS)]
  const even = classes.length - ups.length - downs.length
  const title = html`<h4>Classes</h4><p class="fine">${count(ups.length)} better, ${count(downs.length)} worse, ${count(even)} the same. Change of accuracy in points${shown.length < ups.length + downs.length && ', the largest'}; after a name, its images.</p>`
  if (shown.length === 0) return html`${facts}${title}`
  const label = `Change of the accuracy of classes: ${shown.map((each) => `${shorten(each.name, 40)} ${points(each.after - each.before)}`).join(', ')}`
  const height = 22 * shown.length + 36
  return html`${facts}${title}${figure({ id: `classes-${index}`, label, height, option: (width) => classChart(shown, width), table: all })}`
}

function classTable(classes: readonly ClassChange[]): Markup {
  const rows = classes
    .slice(0, MOST_ROWS)
    .map((each) => [
      name(shorten(each.name, 80)),
      count(each.count),
      percent(each.before),
      percent(each.after),
      points(each.after - each.before),
    ])
  return html`${table(['class', 'images', 'before, %', 'after, %', 'points'], rows)}${classes.length > MOST_ROWS && html`<p class="fine">${classes.length - MOST_ROWS} more are in report.json.</p>`}`
}

function imagesOf({ gained, lost, name: set, task }: SetChange, { sets }: Thumbnails): Markup {
  const shown = sets.get(set)
  if (!shown || gained.length + lost.length === 0) return html``
  const right = task === 'classification' ? 'right' : 'first'
  const part = (title: string, all: number, some: readonly Thumbnail[], kind: 'rose' | 'fell') =>
    html`<h4 class="${kind}">${title} <small>${count(all)} ${all === 1 ? 'image' : 'images'}${some.length < all && `, ${some.length} shown`}</small></h4>
${some.length > 0 && html`<ul class="thumbnails">${some.map((thumbnail) => tile(thumbnail, task, kind))}</ul>`}`
  return html`${part(`Gained: ${right} now, wrong before`, gained.length, shown.gained, 'rose')}
${part(`Lost: ${right} before, wrong now`, lost.length, shown.lost, 'fell')}`
}

/** The name of the picture, and what it was or now is taken for. */
function tile({ id, url, truth, before, after }: Thumbnail, task: SetChange['task'], kind: 'rose' | 'fell'): Markup {
  const side = THUMBNAIL_SIDE
  const picture = url
    ? html`<img src="${url}" width="${side}" height="${side}" alt="${shorten(truth, 80)}" loading="lazy">`
    : html`<span class="blank">no picture</span>`
  const told =
    task === 'retrieval'
      ? html`<small>${before} → ${after}</small>`
      : html`<small><span class="was">${kind === 'rose' ? 'was' : 'now'}</span> ${name(shorten(kind === 'rose' ? before : after, 40))}</small>`
  return html`<li title="${shorten(id, 200)}">${picture}<strong>${name(shorten(truth, 60))}</strong>${told}</li>\n`
}

function confusions(pairs: readonly Confusion[]): Markup {
  const shown = pairs.slice(0, PAIRS).filter(({ before, after }) => Math.max(before, after) > 1)
  if (shown.length === 0) return html``
  const most = Math.max(...shown.flatMap(({ before, after }) => [before, after]))
  const bar = (value: number, kind: string) =>
    html`<span class="bar ${kind}"><span style="width:${((100 * value) / most).toFixed(1)}%"></span></span><span class="count">${String(value)}</span>`
  const rows = shown.map(({ truth, predicted, before, after }) => [
    html`${name(shorten(truth, 40))} <span class="was">taken for</span> ${name(shorten(predicted, 40))}`,
    bar(before, 'old'),
    bar(after, 'new'),
    signed(after - before),
  ])
  return html`<h4>Confusions <small>the most frequent, in images</small></h4>${table(['pair', 'before', 'after', 'change'], rows)}`
}

function retrieval({ evaluations: { before, after } }: SetChange): Markup {
  if (before.task !== 'retrieval' || after.task !== 'retrieval') return html``
  const ways = [
    ['image to text', before.imageToText, after.imageToText],
    ['text to image', before.textToImage, after.textToImage],
  ] as const
  const rows = ways.flatMap(([way, first, second]) => [
    ...(['r1', 'r5', 'r10'] as const).map((key) => [
      `${way}, R@${key.slice(1)}, %`,
      percent(first[key]),
      percent(second[key]),
      points(second[key] - first[key]),
    ]),
    [`${way}, median rank`, String(first.median), String(second.median), signed(second.median - first.median, 1)],
  ])
  return html`<h4>Retrieval <small>${count(after.captions)} captions</small></h4>${table(['', 'before', 'after', 'change'], rows)}`
}
