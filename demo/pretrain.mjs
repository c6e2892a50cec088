// Makes demo/model: trains a small CLIP from scratch, with Cambium, on four vendors' drawings and the emoji's names.
//
//   npm run build
//   node demo/pretrain.mjs --epochs 6 --out .cache/demo/first
//   node demo/pretrain.mjs --epochs 4 --out .cache/demo/second --from .cache/demo/first/model --lr 6e-4 --seed 1
//
// Every picture of one concept, in whosever hand, is a positive of every caption of it (multi-positive InfoNCE, learned
// temperature). Ctrl-C writes a checkpoint; `--resume` goes on. About 25 minutes on two cores with AVX-512 bf16.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Clip, evaluate, FeatureCache, FullFineTuning, InfoNceLoss, Trainer } from '../dist/index.mjs'
import { datasetOf } from './emoji/datasets.mjs'
import { CACHE, loadConcepts, PRETRAINED, UNSEEN } from './emoji/index.mjs'
import { drawVariants } from './emoji/pictures.mjs'
import { drawSets } from './experiment.mjs'
import { ARCHITECTURE, initModel } from './init-model.mjs'

const VARIANTS = 8
const SIZE = ARCHITECTURE.image
const PICTURES = join(CACHE, 'pictures')

async function trainingSet({ packages, concepts }) {
  const pictures = []
  mkdirSync(PICTURES, { recursive: true })
  for (const vendor of PRETRAINED) {
    pictures.push(...(await drawVariants(PICTURES, packages[vendor], vendor, concepts, { size: SIZE, count: VARIANTS })))
  }
  return datasetOf(pictures, concepts)
}

async function train(clip, data, { epochs, lr, seed, out, resume }) {
  const method = await FullFineTuning.create(clip, { logitScale: true })
  const objective = new InfoNceLoss(clip.logitScale, { multiPositive: true })
  const augment = { scale: [0.7, 1], ratio: [3 / 4, 4 / 3] }
  const options = {
    method,
    objective,
    data,
    epochs,
    seed,
    batch: 128,
    lr,
    warmup: 100,
    weightDecay: 0.1,
    augment,
    ema: false,
    out,
    checkpointEvery: 250,
  }
  const trainer = new Trainer(clip, options)
  const controller = new AbortController()
  process.once('SIGINT', () => controller.abort())
  for await (const event of trainer.run({ signal: controller.signal, resume })) {
    if (event.type === 'step' && event.step % 25 !== 0) continue
    console.log(JSON.stringify(event))
    if (event.type === 'end' && event.reason === 'aborted') process.exit(130)
  }
}

const RANDOM = join(CACHE, 'random')
const OPTIONS = {
  epochs: { type: 'string', default: '6' },
  lr: { type: 'string', default: '1e-3' },
  seed: { type: 'string', default: '0' },
  from: { type: 'string', default: RANDOM },
  out: { type: 'string', default: join(CACHE, 'pretrained') },
  resume: { type: 'boolean', default: false },
}

async function main() {
  const { values } = parseArgs({ options: OPTIONS })
  const loaded = await loadConcepts([...PRETRAINED, ...UNSEEN])
  if (values.from === RANDOM && !existsSync(RANDOM)) initModel(RANDOM)
  const clip = await Clip.load(values.from)
  const run = {
    epochs: Number(values.epochs),
    lr: Number(values.lr),
    seed: Number(values.seed),
    out: join(values.out, 'run'),
    resume: values.resume,
  }
  await train(clip, await trainingSet(loaded), run)
  const folder = join(values.out, 'model')
  await clip.save(folder, { dtype: 'f16' })
  const { test, outside, known } = await drawSets(loaded)
  const scores = await evaluate(await Clip.load(folder), [test, ...outside, ...known], { cache: new FeatureCache() })
  const short = Object.entries(scores).map(([name, { top1, top5 }]) => [name, { top1, top5 }])
  writeFileSync(join(folder, 'scores.json'), `${JSON.stringify(Object.fromEntries(short), null, 2)}\n`)
}

await main()
