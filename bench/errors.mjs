/**
 * How far the first step of both sides is from float64: features of images and texts, the loss, the gradients of all adapters.
 *
 *   PYTHON=VENV/bin/python node bench/errors.mjs --model FOLDER [--device cpu|cuda] [--batch B] [--json]
 *
 * The reference is PyTorch in float64 on the CPU, over the weights of the file (make_clip.py's). The peer is PyTorch under autocast to
 * bf16 on the same device; on a GPU ours runs with cuBLASLt and with our own products. Errors are ‖x − x₆₄‖ / ‖x₆₄‖.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    batch: { type: 'string', default: '8' },
    json: { type: 'boolean', default: false },
  },
})
const { PYTHON: python } = process.env
if (!python || !args.model) throw new Error('expected PYTHON (an interpreter with PyTorch) and --model, a folder of make_clip.py')
const folder = mkdtempSync(join(tmpdir(), 'cambium-errors-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

/** Runs a worker that dumps its first step; its tensors by name, as numbers. */
function dump(label, command, commandArgs, env = {}) {
  const file = join(folder, `${label.replace(/\W/g, '-')}.safetensors`)
  const all = [...commandArgs, '--model', args.model, '--batch', args.batch, '--dump', file]
  const { status } = spawnSync(command, all, { stdio: ['ignore', 2, 2], cwd: root, env: { ...process.env, ...env } })
  if (status !== 0) throw new Error(`${label}: ${command} ${all.join(' ')} ended with ${status}`)
  return readTensors(file)
}

const ARRAYS = { F32: Float32Array, F64: Float64Array }

function readTensors(file) {
  const bytes = readFileSync(file)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString('utf8', 8, start))
  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__')
  return new Map(
    tensors.map(
      ([
        name,
        {
          dtype,
          data_offsets: [begin, end],
        },
      ]) => {
        const copy = Uint8Array.prototype.slice.call(bytes, start + begin, start + end)
        return [name, new ARRAYS[dtype](copy.buffer)]
      },
    ),
  )
}

/** Of all tensors whose names begin so, together. */
function errorOf(found, wanted, prefix) {
  const names = [...wanted.keys()].filter((name) => name.startsWith(prefix))
  let error = 0
  let norm = 0
  for (const name of names) {
    const values = found.get(name)
    const reference = wanted.get(name)
    if (values?.length !== reference.length)
      throw new Error(`${name}: expected ${reference.length} numbers, got ${values?.length ?? 'none'}`)
    for (let i = 0; i < reference.length; i++) {
      error += (values[i] - reference[i]) ** 2
      norm += reference[i] ** 2
    }
  }
  return Math.sqrt(error / (norm || 1)) // of a zero, the error itself
}

const ours = ['bench/step.mjs', '--device', args.device]
const peer = args.device === 'cuda' ? 'bench/gpu/peer.py' : 'bench/peers/step.py'
const reference = dump('float64', python, ['bench/peers/step.py', '--mode', 'f64'])
const sides = {
  'cambium bf16': () => dump('ours', process.execPath, ours),
  ...(args.device === 'cuda'
    ? { 'cambium bf16, own products': () => dump('own', process.execPath, ours, { CAMBIUM_PRODUCTS: 'own' }) }
    : {}),
  'PyTorch bf16, autocast': () => dump('peer', python, [peer, '--mode', 'bf16']),
  'cambium f32': () => dump('ours f32', process.execPath, [...ours, '--dtype', 'f32']),
  'PyTorch f32': () => dump('peer f32', python, [peer, '--mode', 'f32']),
}
const rows = Object.entries(sides).map(([label, run]) => {
  const found = run()
  const [image, text, loss, gradients] = ['image_features', 'text_features', 'loss', 'gradient.'].map((what) =>
    errorOf(found, reference, what),
  )
  return { label, image, text, loss, gradients }
})
if (args.json) process.stdout.write(`${JSON.stringify({ device: args.device, batch: Number(args.batch), rows })}\n`)
else {
  const cells = ({ label, ...errors }) => `| ${[label, ...Object.values(errors).map((error) => error.toExponential(1))].join(' | ')} |`
  process.stdout.write(
    ['| relative error | image features | text features | loss | gradients |', '|---|---|---|---|---|', ...rows.map(cells)].join('\n'),
  )
  process.stdout.write('\n')
}
