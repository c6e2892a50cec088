/**
 * The GPU benchmark in one command, from a built tree with the CUDA library:
 *
 *   PYTHON=VENV/bin/python node bench/gpu/run.mjs [--models b32,b16,l14] [--batches 16,64,256] [--rounds 7] [--out bench/results]
 *   PYTHON=VENV/bin/python node bench/gpu/run.mjs --smoke    the same programs at tiny shapes on the emulated device, PyTorch on the
 *                                                            CPU: that they run to the end, no figures (npm run build:cuda -- --emulated)
 *
 * Training step of R-Adapter and inference of the merged image tower: ours with cuBLASLt, with our own products, and as a captured
 * graph, in turns with PyTorch eager (bf16 autocast, SDPA) and torch.compile in two modes (interleave.mjs; medians, ratios).
 * Then the error of the first step of both sides against float64 (errors.mjs), and the kernels against the limits of the machine
 * (ops.mjs), with cuBLASLt and with our own products.
 * Without PYTHON only ours is timed. Nothing here has run on a GPU yet.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '../..')
const { values: args } = parseArgs({
  options: {
    models: { type: 'string', default: 'b32,b16,l14' },
    batches: { type: 'string', default: '16,64,256' },
    rounds: { type: 'string', default: '7' },
    steps: { type: 'string', default: '5' },
    out: { type: 'string', default: join(root, 'bench/results') },
    smoke: { type: 'boolean', default: false },
  },
})
const folder = mkdtempSync(join(tmpdir(), 'cambium-gpu-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
if (args.smoke) {
  Object.assign(args, { models: 'b32', batches: '2', rounds: '1', steps: '1', out: folder })
  process.env.CAMBIUM_CUDA_LIBRARY ??= join(root, 'build/cuda-emulated/libcambium_cuda_emulated.so')
  process.env.CAMBIUM_CUBLAS ??= join(root, 'build/cuda-emulated/libcublasLt_emulated.so')
  process.env.PEER_DEVICE = 'cpu'
}
let failed = 0
const { probeCuda } = createRequire(import.meta.url)('../../dist/device.js')
const found = probeCuda()
if (!found.available) {
  process.stdout.write(`bench/gpu: no GPU can be used here: ${found.reason}. Nothing was measured.\n`)
  process.exit(2)
}
process.stdout.write(`${found.name}; products: ${found.products}\n`)
const python = process.env.PYTHON
if (!python) process.stdout.write('PYTHON is not set: no peer\n')

function run(command, commandArgs, env = {}) {
  const { status } = spawnSync(command, commandArgs, { stdio: 'inherit', cwd: root, env: { ...process.env, ...env } })
  if (status !== 0) process.stdout.write(`failed: ${command} ${commandArgs.join(' ')}\n`)
  if (status !== 0) failed++
  return status === 0
}

function interleave(name, model, work) {
  const ours = `node bench/step.mjs --model $MODEL --work ${work} --device cuda --serve`
  const peer = (mode) => `$PYTHON bench/gpu/peer.py --model $MODEL --work ${work} --mode ${mode} --serve`
  const labels = [`cambium=${ours}`, `own-products=CAMBIUM_PRODUCTS=own ${ours}`]
  if (work === 'train') labels.push(`graph=${ours} --graph`, `pooled=${ours} --last-block pooled --graph`)
  const peers = [
    `eager=${peer('bf16')}`,
    `eager-stored=${peer('bf16-stored')}`,
    `compile=${peer('compile')}`,
    `compile-reduce=PEER_COMPILE=reduce-overhead ${peer('compile')}`,
  ]
  // Compiling takes a CPU minutes and tells nothing more.
  const all = [...labels, ...(python ? peers.slice(0, args.smoke ? 2 : undefined) : [])]
  run(process.execPath, ['bench/interleave.mjs', name, '--rounds', args.rounds, '--steps', args.steps, '--out', args.out, ...all], {
    MODEL: model,
  })
}

const small = args.smoke ? ['--small'] : []
for (const arch of args.models.split(',')) {
  for (const batch of args.batches.split(',')) {
    const model = process.env.MODEL ?? join(folder, `${arch}-${batch}`)
    if (!existsSync(model) && !(python && run(python, ['bench/peers/make_clip.py', model, '--arch', arch, '--batch', batch, ...small]))) {
      process.stdout.write('a model is needed: set PYTHON (makes them), or MODEL (a folder of make_clip.py)\n')
      process.exit(2)
    }
    interleave(`gpu-train-${arch}-${batch}`, model, 'train')
    interleave(`gpu-infer-${arch}-${batch}`, model, 'infer')
    const few = String(Math.min(Number(batch), 8)) // float64 runs on the CPU
    if (python) run(process.execPath, ['bench/errors.mjs', '--model', model, '--device', 'cuda', '--batch', few])
    if (model !== process.env.MODEL) rmSync(model, { recursive: true, force: true })
  }
}
const sizes = args.smoke ? ['--shrink', '12', '--batch', '1', '--repeat', '1'] : []
for (const products of ['', 'own']) run(process.execPath, ['bench/gpu/ops.mjs', ...sizes], { CAMBIUM_PRODUCTS: products })
process.stdout.write(failed > 0 ? `bench/gpu: ${failed} of its programs failed\n` : 'bench/gpu: all of its programs ran to the end\n')
process.exitCode = failed > 0 ? 1 : 0
