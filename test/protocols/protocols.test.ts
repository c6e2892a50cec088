import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { splitClasses } from '../../lib/protocols/base-to-novel.js'
import type { ProtocolEvent, ProtocolOptions } from '../../lib/protocols/protocol.js'
import { runProtocol } from '../../lib/protocols/run-protocol.js'
import { cambium } from '../cli/command.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const dataset = (name: string) => ({ name, train: at(name, 'train'), test: at(name, 'test') })
let settings: Omit<ProtocolOptions, 'protocol' | 'out'>

beforeAll(async () => {
  tinyClip(at('clip'))
  for (const [name, classes] of [
    ['colours', ['red', 'green', 'blue', 'grey']],
    ['others', ['pink', 'brown']],
  ] as const) {
    await tinyImages(at(name, 'train'), classes, 6)
    await tinyImages(at(name, 'test'), classes, 3)
  }
  settings = {
    model: at('clip'),
    datasets: [dataset('colours')],
    ood: [{ name: 'others', path: at('others', 'test') }],
    methods: [
      { name: 'adapter', method: 'r-adapter', rank: 2, rates: [1e-3, 1e-2] },
      { name: 'full', method: 'full', rates: [1e-4] },
    ],
    seeds: [0, 1],
    epochs: 2,
    tried: [0, 0.5, 1],
    dtype: 'f32',
  }
})

test('few-shot: every method, seed and number of shots, the rate chosen once and on validation', async () => {
  const events: ProtocolEvent[] = []
  const out = at('few-shot')
  const report = await runProtocol({ ...settings, protocol: 'few-shot', out, shots: [1, 2], onEvent: (event) => events.push(event) })
  expect(report.cells.map(({ method, task, seed, images }) => [method, task, seed, images])).toEqual([
    ['zero-shot', 'colours, 1 shots', 0, undefined],
    ...['adapter', 'full'].flatMap((method) =>
      [0, 1].flatMap((seed) => [
        [method, 'colours, 1 shots', seed, 4],
        [method, 'colours, 2 shots', seed, 8],
      ]),
    ),
  ])
  const [first, , second] = report.cells.filter(({ method }) => method === 'adapter')
  expect(first.rates).toHaveLength(2)
  const best = first.rates?.reduce((a, b) => ((b.score ?? 0) > (a.score ?? 0) ? b : a))
  expect(first.rate).toBe(best?.rate)
  expect(second).toMatchObject({ rate: first.rate, rates: [{ rate: first.rate }] })
  const [{ title, rows }] = report.tables
  expect(title).toBe('colours')
  expect(rows[0]).toEqual(['%', '1 shot', 'others (1)', '2 shots', 'others (2)'])
  expect(rows.map(([name]) => name).slice(1)).toEqual(['zero-shot', 'adapter', 'full, α 1', 'full, α on validation'])
  const values = [first, second].map(({ points }) => 100 * points[0].measures.colours)
  const mean = (values[0] + values[1]) / 2
  expect(rows[2][1]).toBe(`${mean.toFixed(1)} ± ${(Math.abs(values[0] - values[1]) / Math.SQRT2).toFixed(1)}`)
  expect(readFileSync(join(out, 'results.md'), 'utf8')).toContain(`| adapter | ${rows[2].slice(1).join(' | ')} |`)
  expect(events.filter(({ type }) => type === 'cell')).toHaveLength(9)
})

test('what is finished is not run again, and a stopped run goes on to the same results', async () => {
  const options = { ...settings, protocol: 'few-shot' as const, shots: [1] }
  const whole = await runProtocol({ ...options, out: at('whole') })
  const abort = new AbortController()
  let results = 0
  const onEvent = (event: ProtocolEvent) => {
    if (event.type === 'result' && ++results === 2) abort.abort(new Error('enough'))
  }
  await expect(runProtocol({ ...options, out: at('parts'), signal: abort.signal, onEvent })).rejects.toThrow('enough')
  expect(existsSync(at('parts', 'results.json'))).toBe(false)
  const from: boolean[] = []
  const resumed = await runProtocol({
    ...options,
    out: at('parts'),
    onEvent: (event) => event.type === 'result' && from.push(event.fromBefore),
  })
  expect(from).toEqual([true, true, false, false, false])
  expect(resumed.tables).toEqual(whole.tables)
  const again: boolean[] = []
  await runProtocol({ ...options, epochs: 1, out: at('parts'), onEvent: (e) => e.type === 'result' && again.push(e.fromBefore) })
  expect(again).toEqual([false, false, false, false, false])
  writeFileSync(at('parts', 'cells.json'), '{"version": 1, "cells": [{"key": 3}]}')
  await expect(runProtocol({ ...options, out: at('parts') })).rejects.toMatchObject({
    code: 'E_RUN',
    message: expect.stringContaining(`${at('parts', 'cells.json')}: cells.0.key: expected a text, got 3`),
  })
})

test('base-to-novel: of an odd number of classes the greater half is base', () => {
  expect(splitClasses(5)).toEqual({ base: [0, 1, 2], novel: [3, 4] })
  expect(splitClasses(4)).toEqual({ base: [0, 1], novel: [2, 3] })
})

test('base-to-novel: only base classes train; each half is classified among its own names; H', async () => {
  const report = await runProtocol({ ...settings, protocol: 'base-to-novel', out: at('novel'), shots: [2], seeds: [0], ood: [] })
  const cell = report.cells.find(({ method }) => method === 'full')
  expect(cell).toMatchObject({ images: 4, points: [{ policy: 1, measures: { base: expect.any(Number), novel: expect.any(Number) } }, {}] })
  const { base, novel } = (cell?.points[0].measures ?? {}) as { base: number; novel: number }
  const row = report.tables[0].rows.find(([name]) => name === 'full, α 1')
  const h = base + novel === 0 ? 0 : (200 * base * novel) / (base + novel)
  expect(row?.slice(1)).toEqual([(100 * base).toFixed(1), (100 * novel).toFixed(1), h.toFixed(1)])
})

test('cross-dataset: the first trains, every one is looked at among its own names', async () => {
  const datasets = [dataset('colours'), dataset('others')]
  const methods = [{ name: 'adapter', method: 'r-adapter' as const }]
  const report = await runProtocol({ ...settings, protocol: 'cross-dataset', out: at('cross'), datasets, methods, seeds: [0], ood: [] })
  expect(report.cells.map(({ images }) => images)).toEqual([undefined, 20])
  expect(report.tables[0].rows[0]).toEqual(['%', 'colours (source)', 'others'])
  expect(Object.keys(report.cells[1].points[0].measures)).toEqual(['colours', 'others'])
})

test('retrieval: captions of one set train, ranks both ways', async () => {
  const line = (name: string, i: number) => JSON.stringify({ image: `${name}/${i}.png`, captions: [`${name} ${i}`, `a ${name} thing`] })
  for (const [split, count] of [
    ['train', 6],
    ['test', 3],
  ] as const) {
    const lines = ['red', 'green'].flatMap((name) => Array.from({ length: count }, (_, i) => line(name, i)))
    writeFileSync(at('colours', split, 'said.jsonl'), `${lines.join('\n')}\n`)
  }
  const datasets = [{ name: 'said', train: at('colours', 'train', 'said.jsonl'), test: at('colours', 'test', 'said.jsonl') }]
  const methods = [{ name: 'adapter', method: 'r-adapter' as const, alphas: [0.8] }]
  const report = await runProtocol({ ...settings, protocol: 'retrieval', out: at('said'), datasets, methods, seeds: [0] })
  expect(report.tables.map(({ title }) => title)).toEqual(['said (trained on)', 'other sets'])
  expect(report.tables[0].rows[0]).toEqual([
    '%',
    ...['i→t', 't→i'].flatMap((way) => ['R@1', 'R@5', 'R@10', 'median', 'mean'].map((m) => `${way} ${m}`)),
  ])
  expect(report.cells[1].points[0]).toMatchObject({
    policy: 0.8,
    measures: { 'said i→t R@10': expect.any(Number), others: expect.any(Number) },
  })
})

test('wrong protocols are refused before anything runs', async () => {
  const run = (change: Partial<ProtocolOptions>) => runProtocol({ ...settings, protocol: 'few-shot', out: at('wrong'), ...change })
  await expect(run({ datasets: [] })).rejects.toMatchObject({ code: 'E_OPTION' })
  await expect(run({ methods: [] })).rejects.toMatchObject({ code: 'E_OPTION' })
  await expect(run({ methods: [settings.methods[0], settings.methods[0]] })).rejects.toMatchObject({ code: 'E_OPTION' })
  await expect(run({ shots: [6] })).rejects.toMatchObject({ code: 'E_DATA' })
  const mixed = { ...dataset('colours'), test: at('others', 'test') }
  await expect(run({ datasets: [mixed] })).rejects.toMatchObject({ code: 'E_DATA', message: expect.stringContaining('pink') })
  expect(existsSync(at('wrong'))).toBe(false)
})

test('the command reads a config, prints the tables and goes on where it was', async () => {
  const config = at('protocol.yaml')
  writeFileSync(
    config,
    `model: ${at('clip')}
datasets:
  colours: { train: ${at('colours', 'train')}, test: ${at('colours', 'test')} }
methods:
  adapter: { method: r-adapter, rank: 2, lr: [1e-3, 1e-2], alpha: [0.5, validation] }
shots: 2
seeds: [0]
epochs: 1
dtype: f32
`,
  )
  const command = ['eval', '--protocol', 'few-shot', '--config', config, '--out', at('told')]
  const { code, out } = await cambium(command)
  expect(code).toBe(0)
  expect(out).toMatch(/zero-shot +[\d.]+\nadapter, α 0.5 +[\d.]+\nadapter, α on validation/)
  const { mtimeMs } = statSync(at('told', 'cells.json'))
  const json = await cambium([...command, '--json'])
  expect(JSON.parse(json.out)).toMatchObject({ protocol: 'few-shot', tables: [{ title: 'colours' }] })
  expect(statSync(at('told', 'cells.json')).mtimeMs).toBe(mtimeMs)
  rmSync(at('told'), { recursive: true })
  const wrong = await cambium([...command, '--shots', '3'])
  expect(wrong).toMatchObject({ code: 2 })
})
