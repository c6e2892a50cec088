/** Accuracy on each set over the stages of the run, a line for each method. */
import type { ChartOption } from './echarts.js'
import { FONT, figure, RULE, valueAxis } from './figure.js'
import { accuracy, type LearnMethod, type LearnSet, percents, stageCount } from './learn-methods.js'
import { html, Markup, name, shorten, table } from './markup.js'

/** Colours of learn-style.ts with a mark each, so that no line is told by its colour alone; they repeat after eight. */
const MARKS = ['circle', 'rect', 'triangle', 'diamond', 'emptyCircle', 'emptyRect', 'emptyTriangle', 'emptyDiamond'] as const
const colorOf = (place: number) => `var(--line-${place % MARKS.length})`

export interface Curve {
  readonly place: number
  /** Percent by stage; undefined where it was not measured. */
  readonly values: readonly (number | undefined)[]
}

/** @param learned stage at which the set was learned */
export function stageChart(curves: readonly Curve[], stages: number, learned?: number): ChartOption {
  const series = curves.map(({ place, values }) => ({
    type: 'line' as const,
    data: values.map((value, stage) => [stage, value === undefined ? null : Number((100 * value).toFixed(2))]),
    symbol: MARKS[place % MARKS.length],
    symbolSize: 7,
    lineStyle: { color: colorOf(place), width: 2, type: place < MARKS.length ? ('solid' as const) : ('dashed' as const) },
    itemStyle: { color: colorOf(place) },
    z: curves.length - place + 2,
  }))
  const mark = { silent: true, z: 1, symbol: 'none', label: { show: false }, lineStyle: { color: RULE, type: 'solid' as const, width: 6 } }
  if (learned !== undefined && series.length > 0) Object.assign(series[0], { markLine: { ...mark, data: [{ xAxis: learned }] } })
  return {
    grid: { left: 46, right: 14, top: 10, bottom: 26 },
    xAxis: valueAxis({ scale: false, min: 0, max: Math.max(1, stages - 1), minInterval: 1, splitLine: { show: false } }),
    yAxis: valueAxis({
      axisLabel: { ...FONT, formatter: '{value} %' },
      ...range(curves),
    }),
    series,
  }
}

/** Percent in round steps. Curves that hardly move are shown in at least ten points, or noise would fill the chart. */
function range(curves: readonly Curve[]): { min: number; max: number; interval: number } {
  const values = curves.flatMap((curve) => curve.values.filter((value) => value !== undefined)) as number[]
  const [least, most] = values.length === 0 ? [0, 100] : [100 * Math.min(...values), 100 * Math.max(...values)]
  const room = Math.max(0, 10 - (most - least)) / 2
  const interval = most - least > 50 ? 20 : most - least > 20 ? 10 : 5
  const min = Math.max(0, Math.floor((least - room) / interval) * interval)
  return { min, max: Math.min(100, Math.ceil((most + room) / interval) * interval), interval }
}

export function curveFigure(set: LearnSet, methods: readonly LearnMethod[], half: boolean): Markup {
  const id = `curve-${set.index}`
  const stages = stageCount(methods)
  const spreads = methods.map((method) => Array.from({ length: stages }, (_, stage) => accuracy(method, stage, set.index)))
  const curves = methods.map(({ place }, i) => ({ place, values: spreads[i].map((spread) => spread?.mean) }))
  const ends = methods.map(
    ({ label }, i) => `${label} ${percents(spreads[i][0])} to ${percents(spreads[i].findLast((one) => one !== undefined))} %`,
  )
  const numbers = table(
    ['after task', ...methods.map(({ label }) => name(shorten(label, 24)))],
    Array.from({ length: stages }, (_, stage) => [stage === 0 ? 'pretrained' : stage, ...spreads.map((of) => percents(of[stage]))]),
  )
  const option = () => stageChart(curves, stages, set.task === null ? undefined : set.task + 1)
  return figure({
    id,
    label: `Accuracy on ${set.name} by stage: ${ends.join('; ')}`,
    height: half ? 170 : 240,
    option,
    table: numbers,
    half,
  })
}

/** Symbols and colours of the methods. */
export function legend(methods: readonly LearnMethod[]): Markup {
  return html`<ul class="legend">${methods.map(({ label, place }) => html`<li>${marker(place)} ${name(shorten(label, 40))}</li>`)}</ul>`
}

/** The symbol of a method's line. */
export function marker(place: number): Markup {
  const mark = MARKS[place % MARKS.length]
  const empty = mark.startsWith('empty')
  const path = SHAPES[mark.replace('empty', '').toLowerCase()]
  const paint = empty ? `fill="var(--paper)" stroke="${colorOf(place)}" stroke-width="2"` : `fill="${colorOf(place)}"`
  return new Markup(`<svg class="mark" viewBox="0 0 14 14" aria-hidden="true"><path d="${path}" ${paint}/></svg>`)
}

const SHAPES: Readonly<Record<string, string>> = {
  circle: 'M7 2A5 5 0 1 1 7 12A5 5 0 1 1 7 2Z',
  rect: 'M2 2H12V12H2Z',
  triangle: 'M7 2L12 12H2Z',
  diamond: 'M7 1L13 7L7 13L1 7Z',
}
