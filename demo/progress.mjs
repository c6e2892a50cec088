// What the demo prints while it works: one line that is rewritten on a terminal, only ends of stages when piped.

const started = performance.now()
const seconds = (from) => `${((performance.now() - from) / 1000).toFixed(1)} s`

/** Seconds since the program started, as text. */
export const elapsed = () => seconds(started)

/** Rewrites the current line of a terminal; nothing when output is piped. */
export function status(text) {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[2K${text.slice(0, (process.stdout.columns ?? 80) - 1)}`)
}

/** Runs a stage and prints its name, what it returned as `note`, and its time. */
export async function stage(name, run) {
  const from = performance.now()
  status(`${name} …`)
  const result = await run()
  status('')
  console.log(`${name}${result?.note ? `: ${result.note}` : ''} (${seconds(from)})`)
  return result
}

/** A table with a left-aligned first column; rows are arrays of strings. */
export function table(head, rows) {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column].length)))
  const line = (row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ')
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n')
}
