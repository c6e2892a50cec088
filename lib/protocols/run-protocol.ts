/** Runs a protocol from paths to tables, cell by cell; what is finished is not run again. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fingerprint } from '../checkpoint/fingerprint.js'
import type { Dataset } from '../data/dataset.js'
import { digestOf } from '../data/digest.js'
import { openDataset } from '../data/open-dataset.js'
import { CambiumError } from '../errors.js'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { openCheckpoint } from '../formats/checkpoint.js'
import { holdFolder } from '../formats/hold-folder.js'
import { native } from '../native.js'
import { DEFAULT_TEMPLATES, DecodedImages } from '../train/features.js'
import { methodDefaults } from '../train/fine-tune-method.js'
import { baseToNovel } from './base-to-novel.js'
import { type CellOptions, type CellOutcome, policiesOf, trainCell, zeroShotCell } from './cell.js'
import { type CellResult, readCells, writeCells } from './cells-file.js'
import { crossDataset } from './cross-dataset.js'
import { fewShot } from './few-shot.js'
import type { OpenDatasets, Protocol, ProtocolMethod, ProtocolOptions, Row, Task } from './protocol.js'
import { retrieval } from './retrieval.js'

export const PROTOCOL = { 'few-shot': fewShot, 'base-to-novel': baseToNovel, 'cross-dataset': crossDataset, retrieval } as const

/** Decoded images of the test sets that are kept from cell to cell. */
const DECODED_BYTES = 1e9

/** `results.json`: every cell, and the tables as the papers print them. `level` is the CPU level that computed. */
export interface ProtocolReport {
  readonly protocol: string
  readonly about: string
  /** Folder of the pretrained CLIP. */
  readonly model: string
  readonly seeds: readonly number[]
  /** CPU level that computed, and with how many threads. */
  readonly level: string
  readonly threads: number
  readonly cells: readonly CellResult[]
  /** Cells as text, the head first. */
  readonly tables: readonly { readonly title: string; readonly rows: readonly (readonly string[])[] }[]
}

/**
 * @throws E_OPTION for a protocol without datasets or methods, E_DATA for test classes that are not the training set's, E_MEMORY,
 * E_OUT for a folder that another process writes, the errors of files; the signal's reason when aborted
 */
export async function runProtocol(options: ProtocolOptions): Promise<ProtocolReport> {
  const protocol = PROTOCOL[options.protocol]
  const { seeds = [0, 1, 2], out } = options
  check(options, protocol)
  const open = await openDatasets(options)
  const base = await fingerprint(await openCheckpoint(options.model))
  const plan = seeds.flatMap((seed) => (options.shots ?? protocol.shots).flatMap((shots) => protocol.tasks(open, shots, seed)))
  const tasks = plan.filter(({ seed }) => seed === seeds[0])
  const decoded = new DecodedImages(DECODED_BYTES / (open.datasets.length + open.ood.length))
  const release = await holdFolder(out)
  const cells = await readCells(out)
    .then((known) => runCells(plan, tasks, { ...options, decoded }, base, known))
    .finally(release)
  const rows = rowsOf(options.methods, cells)
  const { level, threads } = native.backendInfo()
  const tables = protocol.tables(tasks, open).map(({ title, columns }) => ({
    title,
    rows: [['%', ...columns.map(({ head }) => head)], ...rows.map((row) => [row.name, ...columns.map((column) => column.value(row))])],
  }))
  const report: ProtocolReport = {
    protocol: protocol.name,
    about: protocol.about,
    model: options.model,
    seeds,
    level,
    threads,
    cells,
    tables,
  }
  await writeFileAtomic(join(out, 'results.json'), `${JSON.stringify(report, null, 2)}\n`)
  await writeFileAtomic(join(out, 'results.md'), markdown(report, options))
  return report
}

function check({ datasets, methods, protocol, shots, seeds }: ProtocolOptions, { about }: Protocol): void {
  const need = (what: string, fine: boolean, expected: string) => {
    if (!fine) throw new CambiumError('E_OPTION', `${what}: expected ${expected} (${protocol}: ${about})`)
  }
  need('datasets', datasets.length > 0, 'at least one, got none')
  need('methods', methods.length > 0, 'at least one, got none')
  need('seeds', seeds === undefined || seeds.length > 0, 'at least one, got none')
  need('shots', shots === undefined || shots.length > 0, 'at least one number, got none')
  need('shots', protocol !== 'retrieval' || shots === undefined, 'none for captions, got some')
  for (const [what, names] of [
    ['datasets', datasets],
    ['methods', methods],
  ] as const) {
    const twice = names.find(({ name }, i) => names.findIndex((other) => other.name === name) !== i)
    need(what, twice === undefined, `a name of its own for each, got ${JSON.stringify(twice?.name)} twice`)
  }
}

async function openDatasets({ datasets, ood = [], templates, skipBroken }: ProtocolOptions): Promise<OpenDatasets> {
  const fallback = { templates: DEFAULT_TEMPLATES }
  const open = (path: string) => openDataset(path, { templates, fallback, skipBroken })
  const opened = []
  for (const { name, train, test, validation } of datasets) {
    const sets = {
      train: await open(train),
      test: await open(test),
      validation: validation === undefined ? undefined : await open(validation),
    }
    for (const [what, set] of Object.entries(sets)) if (set !== undefined) requireSameClasses(name, sets.train, what, set)
    opened.push({ name, ...sets })
  }
  const others = []
  for (const { name, path } of ood) others.push({ name, data: await open(path) })
  return { datasets: opened, ood: others }
}

function requireSameClasses(name: string, train: Dataset, what: string, set: Dataset): void {
  const [expected, got] = [train.classNames, set.classNames].map((names) => names.join(', '))
  if (expected !== got)
    throw new CambiumError('E_DATA', `${name}: expected the ${what} set to have the classes of train (${expected}), got ${got}`)
}

/** Every cell in order: the pretrained model once a dataset; then method by method, the rate chosen with the first seed. */
async function runCells(
  plan: readonly Task[],
  first: readonly Task[],
  options: CellOptions,
  base: string,
  known: Map<string, CellResult>,
): Promise<CellResult[]> {
  const cells: CellResult[] = []
  const total = new Set(first.map(({ dataset }) => dataset)).size + plan.length * options.methods.length
  const run = async (task: Task, method: string, identity: unknown, work: () => Promise<CellOutcome>) => {
    const { name, dataset, shots, seed } = task
    const about = { task: name, dataset, ...(shots === undefined ? {} : { shots }), seed, method }
    const key = createHash('sha256')
      .update(JSON.stringify([base, options.protocol, identity, taskIdentity(task, options)]))
      .digest('hex')
    options.onEvent?.({ type: 'cell', cell: cells.length + 1, cells: total, task: `${name}, seed ${seed}`, method })
    const before = known.get(key)
    const result: CellResult = before ?? { key, ...about, ...(await work()) }
    if (before === undefined) await writeCells(options.out, known.set(key, result))
    options.onEvent?.({ type: 'result', result, fromBefore: before !== undefined })
    cells.push(result)
    return result
  }
  for (const [i, task] of first.entries())
    if (first.findIndex(({ dataset }) => dataset === task.dataset) === i)
      await run(task, 'zero-shot', 'zero-shot', () => zeroShotCell(task, options))
  for (const method of options.methods) {
    const rates = method.rates ?? [methodDefaults(method).lr]
    for (const task of plan) {
      const chosen = cells.find((cell) => cell.method === method.name && cell.task === task.name)?.rate
      const tried = chosen === undefined ? rates : [chosen]
      await run(task, method.name, [method, tried], () => trainCell(task, method, tried, options))
    }
  }
  return cells
}

/** What a cell's result depends on besides the model and the method. */
function taskIdentity(
  task: Task,
  { epochs, batch, warmup, tried, templates, dtype, imageSize, skipBroken, exif }: ProtocolOptions,
): unknown {
  const { name, seed, train, validation, tests } = task
  const sets = tests.map(({ name: set, data }) => [set, digestOf(data)])
  const digests = [digestOf(train), validation && digestOf(validation.data), sets]
  return [name, seed, digests, { epochs, batch, warmup, tried, templates, dtype, imageSize, skipBroken, exif }]
}

function rowsOf(methods: readonly ProtocolMethod[], cells: readonly CellResult[]): Row[] {
  const row = (name: string, method: string, policy: number | 'validation', same: (cell: CellResult, task: Task) => boolean): Row => ({
    name,
    scores: (task, measure) =>
      cells
        .filter((cell) => cell.method === method && same(cell, task))
        .flatMap(({ points }) => points.filter((point) => point.policy === policy).map(({ measures }) => measures[measure]))
        .filter((value) => value !== undefined),
  })
  const pretrained = row('zero-shot', 'zero-shot', 0, (cell, task) => cell.dataset === task.dataset)
  const trained = methods.flatMap((method) =>
    policiesOf(method).map((policy, _, all) => {
      const name = all.length === 1 ? method.name : `${method.name}, α ${policy === 'validation' ? 'on validation' : policy}`
      return row(name, method.name, policy, (cell, task) => cell.task === task.name)
    }),
  )
  return [pretrained, ...trained]
}

function markdown({ about, protocol, model, seeds, level, threads, cells, tables }: ProtocolReport, { methods }: ProtocolOptions): string {
  const line = (row: readonly string[]) => `| ${row.join(' | ')} |`
  const table = ({ title, rows }: ProtocolReport['tables'][number]) =>
    [`## ${title}`, '', line(rows[0]), line(rows[0].map(() => '---')), ...rows.slice(1).map(line), ''].join('\n')
  const chosen = cells
    .filter(({ rate }) => rate !== undefined)
    .map(({ task, seed, method, rate, images, steps, points }) =>
      line([
        task,
        method,
        String(seed),
        String(images),
        String(steps),
        String(rate),
        points.map(({ alpha }) => Number(alpha.toFixed(3))).join(', '),
      ]),
    )
  return [
    `# ${protocol}`,
    '',
    about,
    '',
    `Model ${model}; level ${level}, ${threads} threads; mean ± standard deviation over seeds ${seeds.join(', ')}; top-1 in percent where nothing else is said. Settings are chosen on validation.`,
    `Methods: ${methods.map(({ name, ...rest }) => `${name} ${JSON.stringify(rest)}`).join('; ')}.`,
    '',
    ...tables.map(table),
    '## Cells',
    '',
    line(['task', 'method', 'seed', 'images', 'steps', 'rate', 'α']),
    line(Array.from({ length: 7 }, () => '---')),
    ...chosen,
    '',
  ].join('\n')
}
