/**
 * Tables of the experiment on continual learning, from the learn.json files of its runs.
 *
 *   node bench/real/continual/table.mjs OUT RESULTS
 *
 * OUT is what run.mjs wrote, or RESULTS.json itself (the reports without the machine's paths). RESULTS.json receives all reports,
 * RESULTS.tables.md the tables: mean ± standard deviation over seeds, in percent.
 */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'
import process from 'node:process'

const require = createRequire(import.meta.url)
const { aboveChance, accuracyMatrix, learnMetrics } = require('../../../dist/continual/metrics.js')

const ORDER = ['zero-shot', 'sequential', 'lwf', 'zscl', 'wise-ft', 'prefix', 'diki', 'joint']

/** Reports of finished runs, in the order of the table. */
function readReports(from) {
  if (statSync(from).isFile()) return JSON.parse(readFileSync(from, 'utf8')).runs
  const runs = readdirSync(from).flatMap((label) =>
    readdirSync(from)
      .filter((name) => name === label && existsSync(join(from, label)) && statSync(join(from, label)).isDirectory())
      .flatMap(() => readdirSync(join(from, label)).filter((name) => name.startsWith('seed-')))
      .map((seed) => join(from, label, seed, 'learn.json'))
      .filter((file) => existsSync(file))
      .map((file) => JSON.parse(readFileSync(file, 'utf8'))),
  )
  const finished = runs.filter(({ stages, sets }) => stages.length === sets.filter(({ task }) => task !== null).length + 1)
  const place = ({ label }) => (ORDER.includes(label) ? ORDER.indexOf(label) : ORDER.length)
  return finished.map((run) => ({ ...run, model: basename(run.model) })).sort((a, b) => place(a) - place(b) || a.seed - b.seed)
}

const percent = (x) => (100 * x).toFixed(1)
const meanOf = (values) => values.reduce((a, b) => a + b, 0) / values.length
/** Mean ± sample standard deviation; '–' where something was not measured. */
function spread(values, show = percent) {
  if (values.length === 0 || values.some((value) => value === undefined)) return '–'
  const mean = meanOf(values)
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1))
  return values.length === 1 ? show(mean) : `${show(mean)} ± ${show(deviation)}`
}

const table = (head, rows) =>
  ['', head, head.map(() => '---'), ...rows].map((row) => (row === '' ? '' : `| ${row.join(' | ')} |`)).join('\n')

const [from, results] = process.argv.slice(2)
if (!from || !results) {
  process.stderr.write('usage: node bench/real/continual/table.mjs OUT RESULTS\n')
  process.exit(2)
}
const runs = readReports(from)
const methods = [...new Set(runs.map(({ label }) => label))].map((label) => ({ label, runs: runs.filter((run) => run.label === label) }))
const [first] = runs
const tests = first.sets.filter(({ task }) => task !== null)
const watched = first.sets.filter(({ task }) => task === null)
const known = aboveChance(first)

const measures = (run, space) => learnMetrics(accuracyMatrix(run, space), known)
const measured = (space, names) =>
  table(
    ['%', 'seeds', ...names.map(([title]) => title)],
    methods.map(({ label, runs }) => [
      label,
      runs.length,
      ...names.map(([, value]) => spread(runs.map((run) => value(measures(run, space), run)))),
    ]),
  )
const at =
  (stage, name, key = 'own') =>
  (run) =>
    run.stages[stage]?.sets[name]?.[key]
const kept = (name) => (_, run) => at(run.stages.length - 1, name)(run)

const parts = [
  `Zero-shot and chance on the test sets, %: ${tests.map(({ name, classes, task }) => `${name} ${percent(at(0, name)(first))} (${percent(1 / classes)}${known.includes(task) ? ', above' : ''})`).join(', ')}. Transfer is taken over ${known
    .filter((task) => task > 0)
    .map((task) => tests[task].name)
    .join(', ')}: above chance by more than two standard errors, and not the first task.`,
  '\n\n## Each set among its own classes\n',
  measured('own', [
    ['Transfer', (m) => m.transfer.value],
    ['Avg', (m) => m.average.value],
    ['Last', (m) => m.last.value],
    ['forgetting', (m) => m.forgetting.value],
    ...watched.map(({ name }) => [`${name} at the end`, kept(name)]),
  ]),
  '\n\n## Among the classes of all tasks\n',
  measured('union', [
    ['Transfer', (m) => m.transfer.value],
    ['Avg', (m) => m.average.value],
    ['Last', (m) => m.last.value],
    ['forgetting', (m) => m.forgetting.value],
  ]),
  ...watched.flatMap(({ name }) => [
    `\n\n## ${name} after every task\n`,
    table(
      ['%', 'before', ...tests.map((test) => test.name)],
      methods.map(({ label, runs }) => [label, ...Array.from({ length: tests.length + 1 }, (_, s) => spread(runs.map(at(s, name))))]),
    ),
  ]),
  '\n\n## Last, set by set (own classes)\n',
  table(
    ['%', ...tests.map(({ name }) => name)],
    methods.map(({ label, runs }) => [label, ...tests.map(({ name }) => spread(runs.map(at(tests.length, name))))]),
  ),
  '\n\n## Settings, parameters, time, memory\n',
  table(
    ['', 'tried on validation (first seed): mean accuracy %', 'trained parameters', 'training, s', 'peak of tensors, MiB'],
    methods.map(({ label, runs }) => [
      label,
      (runs[0].settings.tried ?? []).map(({ settings, validation }) => `${settings.lr}: ${percent(validation)}`).join(', ') || '–',
      Math.max(...runs.flatMap((run) => run.tasks.map(({ trained }) => trained))),
      spread(
        runs.map((run) => run.tasks.reduce((sum, { seconds }) => sum + seconds, 0)),
        (x) => x.toFixed(0),
      ),
      spread(
        runs.map((run) => run.peakBytes / 2 ** 20),
        (x) => x.toFixed(0),
      ),
    ]),
  ),
  '\n\n## Every seed: Transfer / Avg / Last (own), Last (union), watched at the end\n',
  table(
    ['%', 'seed', 'Transfer', 'Avg', 'Last', 'Last (union)', ...watched.map(({ name }) => name)],
    runs.map((run) => {
      const [own, union] = [measures(run, 'own'), measures(run, 'union')]
      const values = [own.transfer, own.average, own.last, union.last].map(({ value }) => spread([value]))
      return [run.label, run.seed, ...values, ...watched.map(({ name }) => spread([kept(name)(own, run)]))]
    }),
  ),
]
writeFileSync(`${results}.json`, `${JSON.stringify({ version: 1, runs })}\n`)
writeFileSync(`${results}.tables.md`, `${parts.join('')}\n`)
process.stdout.write(`${parts.join('')}\n`)
