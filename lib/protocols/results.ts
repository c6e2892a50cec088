// What a protocol found, as its files have it: `results.json`, and `results.md` with the tables of the papers.
import { policiesOf } from './cell.js'
import type { CellResult } from './cells-file.js'
import type { ProtocolMethod, Row, Table, Task } from './protocol.js'

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

/** The cells of each table as text, a row for the pretrained model and for every method at every α. */
export function tablesOf(
  tables: readonly Table[],
  methods: readonly ProtocolMethod[],
  cells: readonly CellResult[],
): ProtocolReport['tables'] {
  const rows = rowsOf(methods, cells)
  return tables.map(({ title, columns }) => ({
    title,
    rows: [['%', ...columns.map(({ head }) => head)], ...rows.map((row) => [row.name, ...columns.map((column) => column.value(row))])],
  }))
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

/** @param methods with their settings, which are named */
export function markdown(
  { about, protocol, model, seeds, level, threads, cells, tables }: ProtocolReport,
  methods: readonly ProtocolMethod[],
): string {
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
