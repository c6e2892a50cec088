/**
 * The one file that loads the chart library. From sources it is the whole of echarts, a development dependency; in the built
 * package this module holds the parts of it that are used (scripts/bundle-charts.mjs).
 */
import { type EChartsOption, init } from 'echarts'

export type ChartOption = EChartsOption

/** Draws a chart as the text of an SVG element, without a browser. */
export function drawSvg(option: ChartOption, width: number, height: number): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height })
  try {
    chart.setOption({ animation: false, silent: true, ...option })
    return chart.renderToSVGString({ useViewBox: true })
  } finally {
    chart.dispose() // else its timers keep the process alive
  }
}
