/**
 * Times long-lived workers against each other, A B A B …, in one run.
 *
 *   node bench/interleave.mjs NAME [--rounds 7] [--steps 3] [--limit 1800] [--out bench/results] 'LABEL=COMMAND' 'LABEL=COMMAND' …
 *
 * A worker reads lines `step N` on stdin, does N steps and prints one JSON line {"seconds": [...], "loss": …,
 * "rss_peak_mb": …, "cpu_seconds": …(optional)}. Before that it may print a line {"ready": true, …} about itself, which is
 * kept; every other line it prints is ignored. COMMAND goes to a shell and is recorded as written: use shell variables
 * for paths of the machine. Workers wait blocked while another one runs. A worker that does not answer within --limit seconds (the
 * first answer includes loading and compiling) ends the run with its name: a peer that hangs is not a peer that is slow.
 *
 * Each worker warms up until two medians in a row differ by less than 3 % (at most 5 times). Then every round gives every
 * worker its turn. A ratio is the time of a later worker over the time of the first in the same round: above 1, the first
 * is faster. A worker whose label begins with the first word of the first's ('ours', 'ours, packed') is another mode of the same side:
 * it has its ratio and is none of "the others" whose best is told. NAME.json and NAME.md go to --out.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const flagsOfInterest = /^(sse4_2|fma|f16c|avx|avx2|avx512\w*|avx_vnni|amx\w*|asimd|bf16|i8mm)$/

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

const spread = (values) => ({ median: median(values), min: Math.min(...values), max: Math.max(...values) })

/** One worker process; `step(n)` resolves to its report. */
export class Worker {
  constructor(label, command, limit) {
    Object.assign(this, { label, command, limit, about: {}, rounds: [], cpu: [], loss: undefined, rssPeakMb: 0, stderr: '' })
    // A group of its own, so that what hangs can be ended with the shell and everything that it started.
    this.process = spawn(command, { shell: true, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    this.process.stderr.on('data', (text) => {
      this.stderr = (this.stderr + text).slice(-2000)
    })
    this.process.stdin.on('error', () => {})
    this.process.on('close', (code, signal) => this.#settle?.reject(new Error(`${label}: exited with ${code ?? signal}\n${this.stderr}`)))
    createInterface({ input: this.process.stdout }).on('line', (line) => this.#read(line))
  }

  #settle

  get #ended() {
    return this.process.exitCode !== null || this.process.signalCode !== null
  }

  #read(line) {
    let report
    try {
      report = JSON.parse(line)
    } catch {
      if (line.startsWith('{')) this.#settle?.reject(new Error(`${this.label}: expected a line of JSON, got ${line.slice(0, 200)}`))
      return
    }
    if (report.ready) this.about = report
    if (Array.isArray(report.seconds)) this.#settle?.resolve(report)
  }

  async step(count) {
    if (this.#ended) throw new Error(`${this.label}: exited with ${this.process.exitCode ?? this.process.signalCode}\n${this.stderr}`)
    let timer
    const report = await new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
      const late = `${this.label}: expected an answer within ${this.limit} s, got none\n${this.stderr}`
      timer = setTimeout(() => reject(new Error(late)), this.limit * 1000)
      this.process.stdin.write(`step ${count}\n`)
    }).finally(() => clearTimeout(timer))
    this.#settle = undefined
    this.loss = report.loss == null ? undefined : Number(report.loss) // also the text "nan"
    this.rssPeakMb = Math.max(this.rssPeakMb, report.rss_peak_mb)
    return report
  }

  async warmUp(steps) {
    let before = Number.POSITIVE_INFINITY
    for (let i = 0; i < 5; i++) {
      const now = median((await this.step(steps)).seconds)
      process.stderr.write(`warm-up: ${this.label} ${now.toFixed(3)} s\n`)
      if (Math.abs(now / before - 1) < 0.03) return
      before = now
    }
  }

  /** One turn: keeps the median time of a step. */
  async turn(steps) {
    const report = await this.step(steps)
    this.rounds.push(median(report.seconds))
    if (report.cpu_seconds) this.cpu.push(median(report.cpu_seconds))
    return this.rounds.at(-1)
  }

  close() {
    this.#settle = undefined
    this.process.stdin.end()
  }

  kill() {
    if (this.#ended) return
    try {
      process.kill(-this.process.pid, 'SIGKILL')
    } catch {
      // It has just ended by itself.
    }
  }
}

function describeMachine() {
  let flags = []
  try {
    const line = readFileSync('/proc/cpuinfo', 'utf8').match(/^(?:flags|Features)\s*:(.*)$/m)
    flags = line[1]
      .trim()
      .split(/\s+/)
      .filter((flag) => flagsOfInterest.test(flag))
  } catch {
    // No /proc: the model name alone says what the machine is.
  }
  return {
    cpu: os.cpus()[0]?.model.trim(),
    cores: os.availableParallelism(),
    flags,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    platform: `${os.platform()} ${os.arch()}`,
    node: process.version,
  }
}

function summarise(workers) {
  const [first, ...others] = workers
  const ratio = (other) => other.rounds.map((seconds, i) => seconds / first.rounds[i])
  const sideOf = ({ label }) => label.split(/[ ,]/)[0]
  const peers = others.filter((other) => sideOf(other) !== sideOf(first))
  const best = first.rounds.map((seconds, i) => Math.min(...peers.map((peer) => peer.rounds[i])) / seconds)
  return {
    workers: workers.map((w) => ({
      label: w.label,
      command: w.command,
      about: w.about,
      seconds: { ...spread(w.rounds), perRound: w.rounds },
      ...(w.cpu.length > 0 && { cpuSeconds: spread(w.cpu) }),
      rssPeakMb: w.rssPeakMb,
      loss: w.loss,
    })),
    ratios: [
      ...others.map((other) => ({ of: other.label, to: first.label, ...spread(ratio(other)), perRound: ratio(other) })),
      ...(peers.length > 1 ? [{ of: 'best of the others', to: first.label, ...spread(best), perRound: best }] : []),
    ],
  }
}

function toMarkdown(result) {
  const number = (x, digits = 3) => x.toFixed(digits)
  const range = (s) => `${number(s.median)} (${number(s.min)}–${number(s.max)})`
  const m = result.machine
  return [
    `# ${result.name}`,
    '',
    `${result.date}; ${result.rounds} rounds of ${result.steps} steps each in turn; load average ${result.loadBefore.map((x) => x.toFixed(1)).join(' ')} before, ${result.loadAfter.map((x) => x.toFixed(1)).join(' ')} after.`,
    `${m.cpu}, ${m.cores} cores, ${m.memoryGiB} GiB, ${m.platform}, Node ${m.node}; ${m.flags.join(' ')}.`,
    '',
    '| worker | s/step: median (min–max) | CPU s/step | peak RSS MiB | last loss |',
    '|---|---|---|---|---|',
    ...result.workers.map(
      (w) =>
        `| ${w.label} | ${range(w.seconds)} | ${w.cpuSeconds ? number(w.cpuSeconds.median) : '–'} | ${w.rssPeakMb.toFixed(0)} | ${w.loss == null ? '–' : number(w.loss, 4)} |`,
    ),
    '',
    '| time of | over time of | ratio per round: median (min–max) |',
    '|---|---|---|',
    ...result.ratios.map((r) => `| ${r.of} | ${r.to} | ${range(r)} |`),
    '',
    ...result.workers.flatMap((w) => [`${w.label}: \`${w.command}\``, '', `    ${JSON.stringify(w.about)}`, '']),
  ].join('\n')
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '7' },
      steps: { type: 'string', default: '3' },
      limit: { type: 'string', default: '1800' },
      out: { type: 'string', default: 'bench/results' },
    },
  })
  const [name, ...specs] = positionals
  const [rounds, steps, limit] = [Number(values.rounds), Number(values.steps), Number(values.limit)]
  const pairs = specs.map((spec) => spec.match(/^([^=]+)=(.+)$/s))
  if (!name || pairs.length < 2 || pairs.includes(null) || !(rounds > 0 && steps > 0 && limit > 0)) {
    const flags = '[--rounds N] [--steps N] [--limit SECONDS] [--out DIR]'
    process.stderr.write(`usage: node bench/interleave.mjs NAME ${flags} 'LABEL=COMMAND' 'LABEL=COMMAND' …\n`)
    return 2
  }
  const workers = pairs.map(([, label, command]) => new Worker(label, command, limit))
  const killAll = () => {
    for (const worker of workers) worker.kill()
  }
  for (const signal of ['SIGINT', 'SIGTERM'])
    process.once(signal, () => {
      killAll()
      process.exit(1)
    })
  try {
    for (const worker of workers) await worker.warmUp(steps)
    const loadBefore = os.loadavg()
    for (let round = 0; round < rounds; round++) {
      const line = []
      for (const worker of workers) line.push(`${worker.label} ${(await worker.turn(steps)).toFixed(3)} s`)
      process.stderr.write(`round ${round + 1}: ${line.join(', ')}\n`)
    }
    const result = {
      name,
      date: new Date().toISOString().slice(0, 16),
      rounds,
      steps,
      machine: describeMachine(),
      loadBefore,
      loadAfter: os.loadavg(),
      ...summarise(workers),
    }
    mkdirSync(values.out, { recursive: true })
    writeFileSync(join(values.out, `${name}.json`), `${JSON.stringify(result, null, 2)}\n`)
    writeFileSync(join(values.out, `${name}.md`), toMarkdown(result))
    process.stdout.write(toMarkdown(result))
    return 0
  } catch (error) {
    killAll()
    process.stderr.write(`${error.message}\n`)
    return 1
  } finally {
    for (const worker of workers) worker.close()
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main()
