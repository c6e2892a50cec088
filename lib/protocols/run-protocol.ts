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
import { type CellOptions, type CellOutcome, trainCell, zeroShotCell } from './cell.js'
import { type CellResult, readCells, writeCells } from './cells-file.js'
import { crossDataset } from './cross-dataset.js'
import { fewShot } from './few-shot.js'
import type { OpenDatasets, Protocol, ProtocolOptions, Task } from './protocol.js'
import { markdown, type ProtocolReport, tablesOf } from './results.js'
import { retrieval } from './retrieval.js'

export type { ProtocolReport } from './results.js'

const PROTOCOL = { 'few-shot': fewShot, 'base-to-novel': baseToNovel, 'cross-dataset': crossDataset, retrieval } as const

/** Decoded images of the test sets that are kept from cell to cell. */
const DECODED_BYTES = 1e9

/**
 * Trains every method on every task of a protocol, and writes `results.json` and `results.md`; cells that are finished are not run again.
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
  const { level, threads } = native.backendInfo()
  const { name, about } = protocol
  const tables = tablesOf(protocol.tables(tasks, open), options.methods, cells)
  const report: ProtocolReport = { protocol: name, about, model: options.model, seeds, level, threads, cells, tables }
  await writeFileAtomic(join(out, 'results.json'), `${JSON.stringify(report, null, 2)}\n`)
  await writeFileAtomic(join(out, 'results.md'), markdown(report, options.methods))
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
