/**
 * Our side of the step benchmark: the R-Adapter training step of bench/peers/step.py (both towers, full rank, p = 0,
 * 77 tokens a text, AdamW, EMA), or the merged image tower, on the inputs that make_clip.py wrote.
 *
 *   node bench/step.mjs --model DIR [--dtype bf16|f32] [--work train|infer|head] [--threads 2] [--batch B] [--serve]
 *        [--last-block all|pooled] [--save-text] [--text full|prompts] [--drop P] [--checkpoint none|blocks]
 *
 * By default nothing is left out that PyTorch computes. --last-block pooled and --save-text (equal prompts once, text cut
 * to its length) leave out what changes no result; --drop P drops adapters as the paper does. Texts fill the context
 * (--text full), or are 11 tokens long and four different ones in a batch, as class prompts are. --work head is the
 * classifier over 64 prompts. The protocol of --serve is in interleave.mjs.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { readInputs } from './inputs.mjs'

const require = createRequire(import.meta.url)
const { AdamW, backward, Clip, MpmNceLoss, noGradient, RAdapter, scope, step, synchronize, Tensor } = require('../dist/index.js')
const { native } = require('../dist/native.js')
const { mean, multiply } = require('../dist/ops.js')

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    dtype: { type: 'string', default: 'bf16' },
    work: { type: 'string', default: 'train' },
    threads: { type: 'string', default: '2' },
    'save-text': { type: 'boolean', default: false },
    'last-block': { type: 'string', default: 'all' },
    checkpoint: { type: 'string', default: 'none' },
    drop: { type: 'string', default: '0' },
    batch: { type: 'string' },
    text: { type: 'string', default: 'full' },
    serve: { type: 'boolean', default: false },
  },
})
native.setThreads(Number(args.threads))

const peakMb = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024

const clip = await Clip.load(args.model, { dtype: args.dtype, lastBlock: args['last-block'], checkpoint: args.checkpoint })
const sets = await readInputs(args.model, { batch: args.batch && Number(args.batch), text: args.text })
let steps = 0

function trainer() {
  const adapter = new RAdapter(clip, { drop: Number(args.drop) })
  const objective = new MpmNceLoss()
  const optimizer = new AdamW(adapter.parameters, { average: true })
  const text = args['save-text'] ? {} : { dedupe: false, cut: false }
  return async () => {
    const { pixels, shape, ids, labels } = sets[steps % sets.length]
    adapter.draw(0, steps++)
    const { loss } = await step(() => {
      const image = clip.encodeImage(Tensor.from(pixels, shape), adapter)
      const loss = objective.loss(image, clip.encodeText(ids, adapter, text), Tensor.from(labels, [labels.length], 'i32'))
      backward(loss)
      optimizer.update(5e-4, 0.999)
      return { loss }
    })
    const value = await loss.item()
    loss.dispose()
    await synchronize()
    return value
  }
}

async function infer() {
  const { pixels, shape } = sets[steps++ % sets.length]
  const norm2 = scope(() =>
    noGradient(() => {
      const features = clip.encodeImage(Tensor.from(pixels, shape))
      return mean(multiply(features, features))
    }),
  )
  const value = await norm2.item()
  norm2.dispose()
  return value
}

const work = args.work === 'train' ? trainer() : infer
async function run(count) {
  const seconds = []
  const cpu_seconds = []
  let loss
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    const cpu = process.cpuUsage()
    loss = await work()
    seconds.push((performance.now() - start) / 1000)
    const used = process.cpuUsage(cpu)
    cpu_seconds.push((used.user + used.system) / 1e6)
  }
  return { seconds, cpu_seconds, loss, rss_peak_mb: peakMb(), device_peak_mb: native.memory().peak / 2 ** 20 }
}

const about = {
  name: `Cambium ${args.dtype} ${args.work}`,
  versions: { node: process.version },
  ...native.backendInfo(),
  rss_loaded_mb: peakMb(),
}
if (!args.serve) {
  await run(2)
  console.log(JSON.stringify({ ...about, ...(await run(5)) }))
} else {
  console.log(JSON.stringify({ ready: true, ...about }))
  for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await run(Number(line.split(' ')[1]))))
}
