/**
 * How much slower a step becomes when another process wants one of the cores: each worker (as interleave.mjs has them) steps alone,
 * then beside a process that never pauses, in turns.
 *
 *   node bench/beside.mjs [--rounds 3] [--steps 2] [--core 1] [--limit 600] 'LABEL=COMMAND' …
 *
 * Worker and competitor run as real-time round robin of one priority, so that whatever else the machine does stays out and both
 * have equal claims to that core. Linux, with rights to do so (root); everything else waits meanwhile, so keep it short.
 */
import { execFileSync, spawn } from 'node:child_process'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { median, Worker } from './interleave.mjs'

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '2' },
    core: { type: 'string', default: '1' },
    limit: { type: 'string', default: '600' },
  },
})

/** All threads of all processes of the worker's group. */
function schedule(worker, ...policy) {
  const group = execFileSync('pgrep', ['-g', String(worker.process.pid)], { encoding: 'utf8' })
  for (const pid of group.trim().split('\n')) execFileSync('chrt', ['-a', ...policy, pid])
}

async function turn(worker, beside) {
  const competitor = beside && spawn('chrt', ['-r', '1', 'taskset', '-c', args.core, 'sh', '-c', 'while :; do :; done'])
  schedule(worker, '-r', '-p', '1')
  try {
    const { seconds, cpu_seconds } = await worker.step(Number(args.steps))
    return { seconds: median(seconds), cpu: median(cpu_seconds) }
  } finally {
    schedule(worker, '-o', '-p', '0')
    if (competitor) competitor.kill('SIGKILL')
  }
}

const workers = positionals.map((spec) => {
  const [, label, command] = spec.match(/^([^=]+)=(.+)$/s)
  return new Worker(label, command, Number(args.limit))
})
const row = (cells) => process.stdout.write(`| ${cells.join(' | ')} |\n`)
const range = (values) => `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)})`
try {
  for (const worker of workers) await worker.warmUp(1)
  const turns = workers.map(() => ({ alone: [], beside: [] }))
  for (let round = 0; round < Number(args.rounds); round++)
    for (const [i, worker] of workers.entries()) {
      turns[i].alone.push(await turn(worker, false))
      turns[i].beside.push(await turn(worker, true))
    }
  row(['worker', 's/step alone', 'beside one process', 'CPU s alone', 'beside'])
  row(Array(5).fill('---'))
  for (const [i, { label }] of workers.entries()) {
    const { alone, beside } = turns[i]
    const of = (list, what) => range(list.map((each) => each[what]))
    row([label, of(alone, 'seconds'), of(beside, 'seconds'), of(alone, 'cpu'), of(beside, 'cpu')])
  }
} catch (error) {
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
} finally {
  for (const worker of workers) process.exitCode ? worker.kill() : worker.close()
}
