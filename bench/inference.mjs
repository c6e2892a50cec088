/**
 * Inference on a merged ViT-B/16 CLIP against PyTorch and onnxruntime, and classification with and without cached text: the
 * runs of interleave.mjs that results/inference-onnxruntime-zen4.md and results/less-zen4.md quote, and their tables.
 *
 *   PYTHON=VENV/bin/python node bench/inference.mjs --model FOLDER [--parts image-8,…] [--rounds 5] [--threads 2] [--limit 1800]
 *     [--out FILE]
 *
 * FOLDER is one of make_clip.py. Parts are TOWER-BATCH, TOWER-BATCH-avx2 (f32 alone, PyTorch held to the same level;
 * onnxruntime has no switch for it) and classify. ONNX models are written to a temporary folder, with their check. A table says
 * times over ours by wall, median of the rounds, and by CPU seconds, which is what counts on a machine that others use (--threads 1).
 * Our rows with "all" compute the whole last block, as the peers do. A part whose worker fails, or does not answer within --limit seconds,
 * says so in place of its table; the other parts are run, and the exit code is 1.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { median } from './interleave.mjs'

const ALL = ['image-8', 'image-8-avx2', 'image-1', 'text-1', 'both-1', 'classify']
const TORCH_AVX2 = 'ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 '

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    parts: { type: 'string', default: ALL.join() },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    limit: { type: 'string', default: '1800' },
    out: { type: 'string' },
  },
})
const threads = `--threads ${args.threads} --serve`

function run(command, commandArgs, env) {
  const { status } = spawnSync(command, commandArgs, { stdio: ['ignore', 2, 2], env: { ...process.env, MODEL: args.model, ...env } })
  if (status !== 0) throw new Error(`${commandArgs[0]} exited with ${status}; standard error has the reason`)
}

/** [label, command] of each worker: ours first in each type. */
function inferenceWorkers(tower, batch, level) {
  const what = `--tower ${tower} --batch ${batch} ${threads}`
  const ours = (dtype, block, env = '') =>
    `${env}node bench/step.mjs --model $MODEL --work infer --dtype ${dtype} --last-block ${block} ${what}`
  const torch = (mode, attention, env = '') =>
    `${env}$PYTHON bench/peers/step.py --model $MODEL --work infer --mode ${mode} --attention ${attention} ${what}`
  const limit = level ? TORCH_AVX2 : ''
  const cpu = `CAMBIUM_CPU=${level ?? 'avx512'} `
  const f32 = [
    ['cambium f32', ours('f32', 'pooled', cpu)],
    ['cambium f32, all', ours('f32', 'all', cpu)],
    ['PyTorch f32', torch('f32', 'sdpa', limit)],
    ['PyTorch f32, matmul', torch('f32', 'matmul', limit)],
    ['PyTorch f32, compile', torch('compile-f32', 'sdpa', limit)],
  ]
  if (level) return f32
  return [
    ['cambium bf16', ours('bf16', 'pooled')],
    ['cambium bf16, all', ours('bf16', 'all')],
    ...f32,
    ['onnxruntime f32', `$PYTHON bench/peers/onnx_infer.py $MODEL $ONNX ${what}`],
    ['PyTorch bf16-stored', torch('bf16-stored', 'matmul')],
    ['PyTorch bf16, compile', torch('compile', 'matmul')],
  ]
}

function classifyWorkers() {
  const ours = `node bench/step.mjs --model $MODEL --work classify --classes 64 --last-block pooled ${threads}`
  return [
    ['cached text', `${ours} --cached-text`],
    ['64 prompts with every batch', `${ours} --save-text`],
    ['and padded to 77 tokens', ours],
  ]
}

function tableOrFailure(part, folder) {
  try {
    return measure(part, folder)
  } catch ({ message }) {
    process.exitCode = 1
    return `## ${part}\n\nNot measured: ${message}\n`
  }
}

function measure(part, folder) {
  const [tower, batch, level] = part.split('-')
  const workers = part === 'classify' ? classifyWorkers() : inferenceWorkers(tower, batch, level)
  const ONNX = join(folder, `onnx-${batch}`)
  if (workers.some(([, command]) => command.includes('$ONNX')))
    run(process.env.PYTHON, ['bench/peers/onnx_infer.py', args.model, ONNX, '--write', '--batch', batch])
  const steps = batch === '1' ? '5' : '1'
  const labels = workers.map(([label, command]) => `${label}=${command}`)
  const how = ['--rounds', args.rounds, '--steps', steps, '--limit', args.limit, '--out', folder]
  run(process.execPath, ['bench/interleave.mjs', part, ...how, ...labels], { ONNX })
  rmSync(ONNX, { recursive: true, force: true })
  return table(JSON.parse(readFileSync(join(folder, `${part}.json`), 'utf8')))
}

/** A row for each worker, with its times over ours that come first in each type. */
function table({ name, date, rounds, steps, loadBefore, loadAfter, workers }) {
  const bases = workers.filter(({ label }, i) => i === 0 || label === 'cambium f32')
  const over = (worker, base) => {
    const wall = median(worker.seconds.perRound.map((seconds, i) => seconds / base.seconds.perRound[i]))
    return `${wall.toFixed(2)} / ${(worker.cpuSeconds.median / base.cpuSeconds.median).toFixed(2)}`
  }
  const load = (values) => values[0].toFixed(1)
  const head = ['worker', 's: median (min–max)', 'CPU s', 'peak MiB', ...bases.map(({ label }) => `over ${label}: wall / CPU`)]
  const rows = workers.map((worker) => {
    const { median: middle, min, max } = worker.seconds
    const seconds = `${middle.toFixed(3)} (${min.toFixed(3)}–${max.toFixed(3)})`
    const ratios = bases.map((base) => over(worker, base))
    return [worker.label, seconds, worker.cpuSeconds.median.toFixed(3), worker.rssPeakMb.toFixed(0), ...ratios]
  })
  return [
    `## ${name}`,
    '',
    `${date}; ${rounds} rounds of ${steps}; load average ${load(loadBefore)} before, ${load(loadAfter)} after.`,
    '',
    ...[head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`),
    '',
  ].join('\n')
}

const folder = mkdtempSync(join(tmpdir(), 'cambium-inference-'))
try {
  const tables = args.parts.split(',').map((part) => tableOrFailure(part, folder))
  if (args.out) writeFileSync(args.out, tables.join('\n'))
  process.stdout.write(tables.join('\n'))
} finally {
  rmSync(folder, { recursive: true, force: true })
}
