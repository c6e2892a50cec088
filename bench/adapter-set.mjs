/**
 * What adapters cost when a model is used: features of a batch without an adapter, with one, and with eight mixed; and what
 * it takes to load, switch and swap one. All in one process, in turn, so that a noisy machine is noisy to each.
 *
 *   node bench/adapter-set.mjs --model DIR [--dtype bf16|f32] [--rank 8] [--targets q_proj,v_proj] [--rounds 9] [--threads 2]
 *                              [--batch 8] [--text]
 *
 * DIR as bench/peers/make_clip.py left it. Ratios are of times in the same round, and of the processor time that was used in
 * it, which other programs on the machine disturb less; medians over rounds.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { AdapterSet, Clip, Lora, saveLora, scope, synchronize, Tensor } = require('../dist/index.js')
const { native } = require('../dist/native.js')

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    dtype: { type: 'string', default: 'bf16' },
    rank: { type: 'string', default: '8' },
    targets: { type: 'string', default: 'q_proj,v_proj' },
    rounds: { type: 'string', default: '9' },
    threads: { type: 'string', default: '2' },
    batch: { type: 'string', default: '8' },
    text: { type: 'boolean', default: false },
  },
})
native.setThreads(Number(args.threads))
const COUNT = 8
const batch = Number(args.batch)
const folder = mkdtempSync(join(tmpdir(), 'cambium-adapters-'))
const clip = await Clip.load(args.model, { dtype: args.dtype })

/** Adapters that change something: B of random values. */
async function writeAdapter(name, seed, rank = Number(args.rank)) {
  const lora = await Lora.create(clip, { r: rank, alpha: rank, targets: args.targets.split(','), seed })
  for (const [i, { factors }] of lora.modules.entries())
    factors.b.write(native.random(seed, i, 3, factors.b.count, 0).map((u) => (u - 0.5) / 50))
  await saveLora(lora, join(folder, name))
  lora.dispose()
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1]

async function timed(work) {
  const start = performance.now()
  const value = await work()
  await synchronize()
  return [performance.now() - start, value]
}

const set = new AdapterSet(clip)
for (let i = 0; i < COUNT; i++) await writeAdapter(`a${i}`, i)
await writeAdapter('other', 99, 2 * Number(args.rank))
const loading = []
for (let i = 0; i < COUNT; i++) loading.push((await timed(() => set.loadAdapter(join(folder, `a${i}`))))[0])

const { imageSize } = clip.config.vision
const { vocabSize, bosTokenId, eosTokenId, maxPositionEmbeddings } = clip.config.text
const shape = [batch, 3, imageSize, imageSize]
const pixels = Tensor.from(
  native.random(1, 0, 0, batch * 3 * imageSize ** 2, 0).map((u) => 4 * u - 2),
  shape,
)
const words = (i) => Array.from(native.random(2, i, 0, maxPositionEmbeddings - 2, 0), (u) => 1 + Math.floor(u * (vocabSize - 4)))
const ids = Array.from({ length: batch }, (_, i) => [bosTokenId, ...words(i).map((id) => (id === eosTokenId ? 1 : id)), eosTokenId])
const mixed = await set.mix(Array.from({ length: batch }, (_, i) => `a${i % COUNT}`))

const encode = (injection) => (args.text ? clip.encodeText(ids, injection, { dedupe: false }) : clip.encodeImage(pixels, injection))
const WORK = {
  none: () => encode(undefined),
  one: () => encode(set),
  eight: () => (args.text ? mixed.encodeText(ids) : mixed.encodeImage(pixels)),
}
const times = { none: [], one: [], eight: [] }
const used = { none: [], one: [], eight: [] }
for (let round = -2; round < Number(args.rounds); round++) {
  for (const work of Object.keys(WORK)) {
    const before = process.cpuUsage()
    const [time] = await timed(() => void scope(() => void WORK[work]()))
    const { user, system } = process.cpuUsage(before)
    if (round < 0) continue
    times[work].push(time)
    used[work].push((user + system) / 1000)
  }
}
const ratio = (a, b) => [times, used].map((of) => median(of[a].map((time, i) => time / of[b][i])).toFixed(3)).join(', ')
const switching = []
const swapping = []
for (let i = 0; i < 5; i++) {
  switching.push((await timed(() => set.setAdapter(`a${i + 1}`)))[0])
  swapping.push((await timed(() => set.hotswapAdapter(join(folder, i % 2 === 0 ? 'other' : 'a0'), `a${i + 1}`)))[0])
}
const line = (name, value) => process.stdout.write(`${name.padEnd(34)} ${value}\n`)
const { level, threads } = native.backendInfo()
line('level, threads, type, tower', `${level}, ${threads}, ${args.dtype}, ${args.text ? 'text' : 'vision'}, batch ${batch}`)
for (const work of Object.keys(WORK))
  line(`${work}: ms, ms of processors`, `${median(times[work]).toFixed(1)}, ${median(used[work]).toFixed(1)}`)
line('one / none', ratio('one', 'none'))
line('eight mixed / one', ratio('eight', 'one'))
line('adapter: numbers', set.list()[0].parameters)
line('load: ms', median(loading).toFixed(1))
line('switch: ms', median(switching).toFixed(1))
line('hot swap to another rank: ms', median(swapping).toFixed(1))
set.dispose()
clip.dispose()
rmSync(folder, { recursive: true })
