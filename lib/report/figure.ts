/**
 * A chart as a figure: static SVG in two widths, of which the page shows the one that fits, with its numbers as a table
 * below. Colours are the page's CSS variables, so a chart is dark where the page is.
 */
import type { ChartOption } from './echarts.js'
import { html, Markup } from './markup.js'

/** Sizes in CSS pixels; a label is 12 px in both. */
const WIDE = 680
const NARROW = 340

export interface ChartFigure {
  /** Of its own on the page. */
  readonly id: string
  /** What the chart shows, for those who do not see it. */
  readonly label: string
  readonly height: number
  /** @param width pixels that there are */
  readonly option: (width: number) => ChartOption
  /** Marks and their meaning, above the chart. */
  readonly legend?: Markup
  /** The numbers. */
  readonly table: Markup
  /** A chart beside another is always narrow. */
  readonly half?: boolean
}

/** The chart library is read when the first chart is drawn: most processes draw none, and it takes seven megabytes. */
const charts = () => require('./echarts.js') as typeof import('./echarts.js')

export function figure({ id, label, height, option, legend, table, half }: ChartFigure): Markup {
  const widths = half ? [WIDE / 2 + 60] : [WIDE, NARROW]
  const drawn = widths.map((width, i) => {
    const kind = widths.length === 1 ? 'only' : i === 0 ? 'wide' : 'narrow'
    return html`<div class="chart ${kind}" role="img" aria-label="${label}">${new Markup(tidy(charts().drawSvg(option(width), width, height), `${id}-${i}`))}</div>`
  })
  return html`<figure>${legend}${drawn}
<details><summary>The numbers</summary>${table}</details></figure>`
}

/** What only a page with script needs goes; ids, which echarts counts through the whole process, become the chart's own. */
function tidy(svg: string, prefix: string): string {
  const own = new Map<string, string>()
  const rename = (id: string): string => {
    if (!own.has(id)) own.set(id, `${prefix}-${own.size}`)
    return own.get(id) as string
  }
  return svg
    .replace(/<style[\s\S]*?<\/style>/g, '')
    .replace(/ (?:ecmeta_\w+|class|pointer-events|xmlns:xlink|version|baseProfile)="[^"]*"/g, '')
    .replace(/(?<=id="|url\(#)zr\d+-\w+/g, rename)
    .replace(/<rect width="\d+" height="\d+" x="0" y="0"[^>]*fill="none"[^>]*><\/rect>\n?/, '')
}

/** CSS variables of style.ts. */
export const INK = 'var(--ink)'
export const MUTED = 'var(--muted)'
export const RULE = 'var(--rule)'
export const PAPER = 'var(--paper)'
export const ACCENT = 'var(--accent)'
export const WARM = 'var(--warm)'
export const COOL = 'var(--cool)'

export const FONT = { fontFamily: 'inherit', fontSize: 12, color: MUTED }

/** Both axes in the report's manner: thin rules, no frame. */
export function valueAxis(extra: object = {}): object {
  return {
    type: 'value',
    scale: true,
    splitNumber: 4,
    nameLocation: 'middle',
    nameTextStyle: FONT,
    axisLabel: { ...FONT, hideOverlap: true },
    axisLine: { show: false },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: RULE, width: 1 } },
    ...extra,
  }
}
