/** The options of each chart; the shapes and colours of a series are those of its legend. */
import type { StepEvent } from '../train/events.js'
import type { ClassChange } from './changes.js'
import type { ChartOption } from './echarts.js'
import { ACCENT, COOL, FONT, INK, MUTED, PAPER, RULE, valueAxis, WARM } from './figure.js'
import { shorten } from './markup.js'
import { mean, points } from './numbers.js'

/** More points than pixels tell nothing. */
const MOST_POINTS = 400

/** Keeps a label readable where a line runs behind it. */
const HALO = { textBorderColor: PAPER, textBorderWidth: 4 }

type Point = readonly [number, number]

/** Means of consecutive points, at most `most` of them. */
function thinned(all: readonly Point[], most = MOST_POINTS): Point[] {
  if (all.length <= most) return [...all]
  return Array.from({ length: most }, (_, i) => {
    const part = all.slice(Math.floor((i * all.length) / most), Math.floor(((i + 1) * all.length) / most))
    return [mean(part.map(([x]) => x)), mean(part.map(([, y]) => y))]
  })
}

/** Loss of each step, faint, and its mean over a fortieth of the run. */
export function lossChart(steps: readonly StepEvent[]): ChartOption {
  const all = steps.map(({ step, loss }) => [step, loss] as const)
  const window = Math.max(1, Math.floor(all.length / 40))
  const smooth = all.map(([step], i) => [step, mean(all.slice(Math.max(0, i - window), i + window + 1).map(([, y]) => y))] as const)
  const rough = window > 1
  return {
    ...curve(steps, 'loss'),
    series: [
      ...(rough ? [line(thinned(all), { lineStyle: { color: ACCENT, width: 1, opacity: 0.3 } })] : []),
      line(thinned(rough ? smooth : all), { lineStyle: { color: ACCENT, width: 2 } }),
    ],
  }
}

export function rateChart(steps: readonly StepEvent[]): ChartOption {
  const data = thinned(steps.map(({ step, lr }) => [step, lr] as const))
  const area = { color: MUTED, opacity: 0.08 }
  return { ...curve(steps, 'learning rate', 0), series: [line(data, { lineStyle: { color: MUTED, width: 2 }, areaStyle: area })] }
}

function curve(steps: readonly StepEvent[], what: string, min?: number): ChartOption {
  const axis = (value: number) => (value !== 0 && Math.abs(value) < 0.01 ? value.toExponential() : String(value))
  return {
    grid: { left: 52, right: 14, top: 14, bottom: 44 },
    xAxis: valueAxis({ name: 'step', nameGap: 28, min: 0, max: steps.at(-1)?.step, splitLine: { show: false }, minInterval: 1 }),
    yAxis: valueAxis({ min, axisLabel: { ...FONT, formatter: axis }, name: what, nameTextStyle: { color: 'transparent', fontSize: 0 } }),
  }
}

const line = (data: readonly Point[], extra: object): object => ({ type: 'line', data, symbol: 'none', ...extra })

export interface Track {
  readonly data: readonly { readonly alpha: number; readonly x: number; readonly y: number; readonly mark?: Mark }[]
  readonly own: boolean
}

/** What a point stands for. */
export type Mark = 'zero-shot' | 'chosen' | 'full' | 'wise-ft' | 'adapter'

export const MARKS: Readonly<Record<Mark, { symbol: string; size: number; color: string }>> = {
  'zero-shot': { symbol: 'diamond', size: 14, color: INK },
  chosen: { symbol: 'circle', size: 13, color: ACCENT },
  adapter: { symbol: 'circle', size: 8, color: COOL },
  full: { symbol: 'rect', size: 11, color: WARM },
  'wise-ft': { symbol: 'triangle', size: 12, color: WARM },
}

/** In-distribution against out-of-distribution score, in percent, from zero-shot along α; up and right is better. */
export function tradeOffChart(tracks: readonly Track[], [xName, yName]: readonly [string, string]): ChartOption {
  const rounded = (value: number) => Number((100 * value).toFixed(2))
  const series = tracks.map(({ data, own }) => {
    const color = own ? ACCENT : WARM
    const sides = own ? labelSides(data, tracks) : []
    const dots = data.map(({ alpha, x, y, mark }, i) => {
      const { symbol, size, color: fill } = mark ? MARKS[mark] : { symbol: 'circle', size: 5, color }
      const style = { color: fill, borderColor: PAPER, borderWidth: mark ? 2 : 0 }
      const label = { show: own, formatter: `α ${Number(alpha.toFixed(2))}`, ...FONT, ...HALO, position: sides[i] }
      return { value: [rounded(x), rounded(y)], symbol, symbolSize: size, itemStyle: style, label }
    })
    const lineStyle = { color, width: own ? 2 : 1.5, type: own ? ('solid' as const) : ('dashed' as const) }
    return { type: 'line' as const, data: dots, showSymbol: true, lineStyle, labelLayout: { hideOverlap: true }, z: own ? 3 : 2 }
  })
  const axis = { axisLabel: { ...FONT, formatter: '{value} %' }, boundaryGap: ['7%', '7%'] }
  return {
    grid: { left: 66, right: 48, top: 18, bottom: 48 },
    xAxis: valueAxis({ ...axis, name: shorten(xName, 48), nameGap: 30 }),
    yAxis: valueAxis({ ...axis, name: shorten(yName, 40), nameGap: 48 }),
    series,
  }
}

const SIDES = { right: [1, 0], left: [-1, 0], top: [0, 1], bottom: [0, -1] } as const

/** For each point the side that the lines from it, and a point of another track close by, lie least. */
function labelSides(data: Track['data'], tracks: readonly Track[]): (keyof typeof SIDES)[] {
  const all = tracks.flatMap((track) => track.data)
  const span = (values: readonly number[]) => Math.max(...values) - Math.min(...values) || 1
  const [width, height] = [span(all.map(({ x }) => x)), span(all.map(({ y }) => y))]
  const apart = (a: Track['data'][number], b: Track['data'][number]) => Math.hypot((a.x - b.x) / width, (a.y - b.y) / height)
  const others = tracks.filter((track) => track.data !== data).flatMap((track) => track.data)
  return data.map((point, i) => {
    const close = others.filter((other) => apart(point, other) > 0.01 && apart(point, other) < 0.2)
    const ends = [data[i - 1], data[i + 1], ...close].filter((end) => end !== undefined)
    const lines = ends.map(({ x, y }) => [(x - point.x) / width, (y - point.y) / height])
    const towards = ([u, v]: readonly number[]) => Math.max(...lines.map(([x, y]) => (x * u + y * v) / (Math.hypot(x, y) || 1)))
    const sides = Object.keys(SIDES) as (keyof typeof SIDES)[]
    return sides.reduce((best, side) => (towards(SIDES[side]) < towards(SIDES[best]) - 1e-9 ? side : best))
  })
}

/** Change of the accuracy of classes, in points, bars from zero: the gains above the losses. */
export function classChart(classes: readonly ClassChange[], width: number): ChartOption {
  const wide = width > 500
  // As many characters as stand in the room left of the bars, in fonts as wide as DejaVu Sans: more would be cut at their beginning.
  const room = wide ? 28 : 17
  const labels = classes.map(({ name, count }) => `${shorten(name, room - 2 - String(count).length)}  ${count}`)
  const most = Math.max(...classes.map(({ before, after }) => Math.abs(after - before))) * 100
  const falls = classes.some(({ before, after }) => after < before)
  const bars = classes.map(({ before, after }) => {
    const color = after >= before ? ACCENT : WARM
    const position = after >= before ? ('right' as const) : ('left' as const)
    return {
      value: Number((100 * (after - before)).toFixed(2)),
      itemStyle: { color },
      label: { show: true, position, formatter: points(after - before), ...FONT },
    }
  })
  return {
    grid: { left: wide ? 210 : 128, right: 20, top: 4, bottom: 28 },
    xAxis: valueAxis({ min: falls ? -1.3 * most : 0, max: 1.3 * most, axisLabel: { show: false }, splitLine: { show: false } }),
    yAxis: {
      type: 'category',
      inverse: true,
      data: labels,
      axisLabel: { ...FONT, color: INK, interval: 0 },
      axisLine: { show: false },
      axisTick: { show: false },
    },
    series: [
      {
        type: 'bar',
        data: bars,
        barWidth: 12,
        markLine: { silent: true, symbol: 'none', data: [{ xAxis: 0 }], lineStyle: { color: RULE, type: 'solid' }, label: { show: false } },
      },
    ],
  }
}
