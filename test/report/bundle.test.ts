import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { classChart, lossChart, rateChart, tradeOffChart } from '../../lib/report/charts.js'
import { drawSvg } from '../../lib/report/echarts.js'
import { learnPage } from '../../lib/report/learn-report-page.js'
import { temporaryFolder } from '../temporary-folder.js'
import { learnRuns } from './learn-runs.js'
import { stepEvent, writeRun } from './run-folder.js'

const folder = temporaryFolder()
const root = join(__dirname, '../..')

test('the built package draws with its own copy of the charts, to the same page', async () => {
  const run = writeRun(join(folder, 'run'))
  const { writeReport } = await import('../../lib/report/write-report.js')
  await writeReport(run, { out: join(folder, 'sources.html') })
  const built = join(root, 'dist/report/echarts.js')
  expect(readFileSync(built, 'utf8')).not.toMatch(/require\(["']echarts/)
  const script = `require(process.argv[1]).writeReport(process.argv[2], { out: process.argv[3] })`
  const child = spawnSync(process.execPath, ['-e', script, join(root, 'dist/report/write-report.js'), run, join(folder, 'built.html')])
  expect([child.status, child.stderr.toString()]).toEqual([0, ''])
  const page = (name: string) => readFileSync(join(folder, name), 'utf8')
  expect(page('built.html')).toBe(page('sources.html'))
})

test('so does the report of a stream of tasks', () => {
  const runs = learnRuns()
  const script = `process.stdout.write(require(process.argv[1]).learnPage('x', JSON.parse(require('fs').readFileSync(0, 'utf8'))))`
  const built = join(root, 'dist/report/learn-report-page.js')
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', script, built], { input: JSON.stringify(runs), maxBuffer: 1e8 })
  expect([status, stderr.toString()]).toEqual([0, ''])
  expect(stdout.toString()).toBe(learnPage('x', runs))
})

test('names of classes keep to the room beside their bars, on a telephone too', () => {
  const long = { name: 'a mountain cableway with two cabins', count: 1000, before: 0, after: 1 }
  const [narrow, wide] = [340, 720].map((width) => (classChart([long], width).yAxis as { data: string[] }).data[0])
  expect([narrow, wide]).toEqual(['a mountain…  1000', 'a mountain cableway w…  1000'])
})

test('charts draw whatever there is: one step, one class, one point, thousands', () => {
  mkdirSync(join(folder, 'charts'))
  const steps = (count: number) => Array.from({ length: count }, (_, i) => stepEvent(i + 1, count))
  const one = { name: 'x', count: 1, before: 0, after: 0 }
  for (const option of [lossChart(steps(1)), rateChart(steps(1)), lossChart(steps(5000)), rateChart(steps(5000)), classChart([one], 340)]) {
    const svg = drawSvg(option, 340, 200)
    expect(svg).not.toMatch(/NaN|undefined|Infinity/)
    expect(svg.length).toBeLessThan(60_000)
  }
  const point = { alpha: 0, x: 0.5, y: 0.5 }
  expect(drawSvg(tradeOffChart([{ own: true, data: [point, point] }], ['x', 'y']), 340, 200)).not.toMatch(/NaN/)
})
