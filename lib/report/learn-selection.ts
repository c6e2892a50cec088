/** Of a method that selects: which task's parameters images were given, and how much of them. */
import type { SetAccuracy } from '../continual/learn-report.js'
import type { ChartOption } from './echarts.js'
import { ACCENT, COOL, FONT, figure, valueAxis, WARM } from './figure.js'
import { type Cell, heatMap } from './learn-heat-map.js'
import { found, type LearnMethod, type LearnSet, stageCount } from './learn-methods.js'
import { html, type Markup, name, shorten, table } from './markup.js'
import { mean, percent } from './numbers.js'

type Selection = NonNullable<SetAccuracy['selection']>

/** Sets by what the model knows of them at a stage. */
const KINDS = {
  learned: { words: 'sets learned', color: ACCENT, dash: 'solid' },
  before: { words: 'sets not learned yet', color: WARM, dash: 'dashed' },
  watched: { words: 'sets never learned', color: COOL, dash: 'dotted' },
} as const
type Kind = keyof typeof KINDS

export function selects({ runs }: LearnMethod): boolean {
  return runs.some(({ stages }) => stages.some(({ sets }) => Object.values(sets).some(({ selection }) => selection !== undefined)))
}

export function selectionSection(method: LearnMethod, sets: readonly LearnSet[], id: string): Markup {
  const weights = histograms(method, sets)
  const map = chosenMap(method, sets)
  const kinds = (Object.keys(KINDS) as Kind[]).filter((kind) => total(weights[kind]) > 0)
  const label = `Share of images by integration weight: ${kinds.map((kind) => `${KINDS[kind].words}, mean ${average(weights[kind]).toFixed(2)}`).join('; ')}`
  const chart = figure({
    id,
    label,
    height: 220,
    legend: html`<ul class="legend">${kinds.map((kind) => html`<li><span class="key ${kind}"></span> ${KINDS[kind].words} <small>mean ${average(weights[kind]).toFixed(2)}</small></li>`)}</ul>`,
    option: () => weightChart(kinds.map((kind) => ({ kind, bins: weights[kind] }))),
    table: weightTable(weights, kinds),
    half: true,
  })
  return html`<h3>${name(method.label)}</h3>
<div class="pair"><div><h4>Weight of the task’s parameters</h4>${chart}</div><div><h4>Task that images were given</h4>${map}</div></div>`
}

/** Images by twentieth of the weight, all stages after the first task and all seeds together. */
export function histograms(method: LearnMethod, sets: readonly LearnSet[]): Record<Kind, number[]> {
  const bins: Record<Kind, number[]> = { learned: [], before: [], watched: [] }
  for (let stage = 1; stage < stageCount([method]); stage++) {
    for (const { index, task } of sets) {
      const kind: Kind = task === null ? 'watched' : task < stage ? 'learned' : 'before'
      for (const entry of found(method, stage, index)) {
        for (const [bin, images] of (entry?.selection?.weights ?? []).entries()) bins[kind][bin] = (bins[kind][bin] ?? 0) + images
      }
    }
  }
  return bins
}

const total = (bins: readonly number[]): number => bins.reduce((sum, images) => sum + images, 0)
/** As if each image stood in the middle of its bin. */
const average = (bins: readonly number[]): number =>
  bins.reduce((sum, images, bin) => sum + (images * (bin + 0.5)) / bins.length, 0) / total(bins)

export function weightChart(shown: readonly { readonly kind: Kind; readonly bins: readonly number[] }[]): ChartOption {
  const series = shown.map(({ kind, bins }) => {
    const { color, dash } = KINDS[kind]
    const share = bins.map((images) => Number(((100 * images) / total(bins)).toFixed(2)))
    const data = [...share, share.at(-1) ?? 0].map((value, bin) => [bin / bins.length, value])
    const lineStyle = { color, width: 2, type: dash }
    return { type: 'line' as const, step: 'end' as const, data, symbol: 'none', lineStyle, areaStyle: { color, opacity: 0.1 } }
  })
  return {
    grid: { left: 46, right: 14, top: 10, bottom: 42 },
    xAxis: valueAxis({ scale: false, min: 0, max: 1, interval: 0.25, name: 'weight', nameGap: 26, splitLine: { show: false } }),
    yAxis: valueAxis({
      scale: false,
      min: 0,
      max: ({ max }: { max: number }) => Math.min(100, Math.ceil(max / 20) * 20),
      axisLabel: { ...FONT, formatter: '{value} %' },
    }),
    series,
  }
}

function weightTable(weights: Record<Kind, number[]>, kinds: readonly Kind[]): Markup {
  const count = Math.max(0, ...kinds.map((kind) => weights[kind].length))
  const rows = Array.from({ length: count }, (_, bin) => [
    `${(bin / count).toFixed(2)} to ${((bin + 1) / count).toFixed(2)}`,
    ...kinds.map((kind) => `${percent((weights[kind][bin] ?? 0) / total(weights[kind]))} %`),
  ])
  return table(['weight', ...kinds.map((kind) => KINDS[kind].words)], rows)
}

/** Rows: sets; columns: tasks; cells: share of the set's images given to the task at the last stage, mean over seeds. */
function chosenMap(method: LearnMethod, sets: readonly LearnSet[]): Markup {
  const last = stageCount([method]) - 1
  const tasks = sets.filter(({ task }) => task !== null && task < last)
  const rows = sets.flatMap(({ name: set, index, task }) => {
    const selections = found(method, last, index).flatMap((entry) => (entry?.selection === undefined ? [] : [entry.selection]))
    if (selections.length === 0) return []
    const cells = tasks.map((column): Cell => {
      const share = mean(selections.map((selection) => shareOf(selection, column.task as number)))
      const title = `${percent(share)} % of ${set} were given the parameters of ${column.name}`
      return {
        heat: share,
        text: share === 0 ? '' : (100 * share).toFixed(0),
        title,
        ...(task === column.task ? { mark: 'own' as const } : {}),
      }
    })
    return [{ name: name(shorten(set, 12)), cells }]
  })
  return heatMap({ caption: 'at the end, in percent', columns: tasks.map((task) => task.name), rows })
}

const shareOf = ({ tasks }: Selection, task: number): number => (tasks[task] ?? 0) / Math.max(1, total(tasks))
