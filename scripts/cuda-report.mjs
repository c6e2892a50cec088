// Reads what ptxas says (-Xptxas -v) and lists, file by file, the kernels with their registers and spills.
//   node scripts/cuda-report.mjs [build/cuda-report.txt] [--all]      --all: every kernel, not only the heaviest of a file
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** @returns {{ file: string, kernel: string, arch: string, registers: number, spill: number, stack: number, shared: number }[]} */
export function kernelsOf(report) {
  const kernels = []
  let file = ''
  let current
  for (const line of report.split('\n')) {
    if (line.startsWith('# ')) file = line.slice(2)
    const entry = /Compiling entry function '(\S+)' for 'sm_(\w+)'/.exec(line)
    if (entry) {
      current = { file, kernel: entry[1], arch: entry[2], registers: 0, spill: 0, stack: 0, shared: 0 }
      kernels.push(current)
    }
    if (!current) continue
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
    if (frame) Object.assign(current, { stack: Number(frame[1]), spill: Number(frame[2]) + Number(frame[3]) })
    const used = /Used (\d+) registers/.exec(line)
    if (used) current.registers = Number(used[1])
    const shared = /(\d+) bytes smem/.exec(line)
    if (shared) current.shared = Number(shared[1])
  }
  return kernels
}

/** Names as in the source, where binutils is there to say them. */
function readable(kernels) {
  try {
    const names = execFileSync('c++filt', { input: kernels.map(({ kernel }) => kernel).join('\n'), encoding: 'utf8' }).split('\n')
    return kernels.map((one, i) => ({
      ...one,
      kernel: names[i]
        .replace(/^void /, '')
        .replace(/\(anonymous namespace\)::|cambium::cuda::/g, '')
        .replace(/\(.*$/, ''),
    }))
  } catch {
    return kernels
  }
}

export function summarise(report, all = false) {
  const kernels = readable(kernelsOf(report))
  const lines = []
  for (const file of [...new Set(kernels.map((one) => one.file))]) {
    const own = kernels.filter((one) => one.file === file).sort((a, b) => b.spill - a.spill || b.registers - a.registers)
    for (const { kernel, arch, registers, spill, stack, shared } of all ? own : own.slice(0, 1)) {
      const counts = `${registers} registers, ${spill} B spilled, ${stack} B stack, ${shared} B static shared`
      lines.push(
        `${file.padEnd(28)} ${`sm_${arch}`.padEnd(7)} ${counts.padEnd(64)} ${all ? '' : `(of ${own.length}) `}${kernel.slice(0, 80)}`,
      )
    }
  }
  return `${lines.join('\n')}\n`
}

if (process.argv[1]?.endsWith('cuda-report.mjs')) {
  const path = process.argv.slice(2).find((one) => !one.startsWith('--')) ?? 'build/cuda-report.txt'
  process.stdout.write(summarise(readFileSync(path, 'utf8'), process.argv.includes('--all')))
}
