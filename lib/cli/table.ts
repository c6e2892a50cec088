/** Results as a table for people. */
import type { Evaluation } from '../train/evaluate.js'

/** Columns as wide as their widest cell; the first left-aligned, the others right-aligned. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd(),
  )
  return [lines[0], widths.map((width) => '-'.repeat(width)).join('  '), ...lines.slice(1)].join('\n')
}

export const percent = (value: number): string => (100 * value).toFixed(1)

/** One row a model, one column a measure of a set: top-1, or R@1 both ways; in percent. */
export function resultsTable(
  results: readonly { readonly name: string; readonly alpha?: number; readonly evaluation: Evaluation }[],
): string {
  const sets = Object.entries(results[0].evaluation)
  const columns = sets.flatMap(([name, { task }]) => (task === 'classification' ? [name] : [`${name} i→t`, `${name} t→i`]))
  const rows = results.map(({ name, alpha, evaluation }) => [
    name,
    alpha === undefined ? '' : String(Number(alpha.toFixed(3))),
    ...sets.flatMap(([set]) => {
      const result = evaluation[set]
      return result.task === 'classification' ? [percent(result.top1)] : [percent(result.imageToText.r1), percent(result.textToImage.r1)]
    }),
  ])
  const table = formatTable([['%', 'alpha', ...columns], ...rows])
  return `${table}\ntop-1 accuracy${columns.some((column) => column.includes('→')) ? '; R@1 of retrieval, image→text and text→image' : ''}`
}
