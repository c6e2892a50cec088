// Makes demo/model: trains a small CLIP from scratch, with Cambium, on four vendors' drawings and the emoji's names.
//
//   npm run build && node demo/pretrain.mjs [--epochs 8] [--out .cache/demo/pretrained]
//
// Every picture of one concept, in whosever hand, is a positive of every caption of it (multi-positive InfoNCE, learned
// temperature). Ctrl-C writes a checkpoint; `--resume` goes on. About 25 minutes on two cores with AVX-512 bf16.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Clip, evaluate, FullFineTuning, InfoNceLoss, Trainer } from '../dist/index.mjs'
import { datasetOf } from './emoji/datasets.mjs'
import { CACHE, loadConcepts, PRETRAINED, UNSEEN } from './emoji/index.mjs'
import { drawPictures, drawVariants } from './emoji/pictures.mjs'
import { ARCHITECTURE, initModel } from './init-model.mjs'

const VARIANTS = 8
const SIZE = ARCHITECTURE.image

async function trainingSet({ packages, concepts }) {
  const pictures = []
  for (const vendor of PRETRAINED) {
    const folder = join(CACHE, `pretrain-${SIZE}-${VARIANTS}`, vendor)
    mkdirSync(join(folder, '..'), { recursive: true })
    pictures.push(...(await drawVariants(folder, packages[vendor], vendor, concepts, { size: SIZE, count: VARIANTS })))
  }
  return datasetOf(pictures, concepts)
}

/** Test concepts of every vendor, named among all names. */
async function testSets({ packages, concepts }) {
  const sets = []
  for (const vendor of [...PRETRAINED, ...UNSEEN]) {
    const test = concepts.filter(({ split }) => split === 'test')
    const pictures = await drawPictures(join(CACHE, `test-64-${vendor}`), packages[vendor], vendor, test, 64)
    sets.push({ name: vendor, data: datasetOf(pictures, concepts) })
  }
  return sets
}

async function train(clip, data, { epochs, out, resume }) {
  const method = await FullFineTuning.create(clip, { logitScale: true })
  const objective = new InfoNceLoss(clip.logitScale, { multiPositive: true })
  const augment = { scale: [0.7, 1], ratio: [3 / 4, 4 / 3] }
  const options = {
    method,
    objective,
    data,
    epochs,
    batch: 128,
    lr: 1e-3,
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

async function main() {
  const options = {
    epochs: { type: 'string', default: '8' },
    out: { type: 'string', default: join(CACHE, 'pretrained') },
    resume: { type: 'boolean', default: false },
  }
  const { values } = parseArgs({ options })
  const loaded = await loadConcepts([...PRETRAINED, ...UNSEEN])
  const start = join(CACHE, 'random')
  if (!existsSync(start)) initModel(start)
  const clip = await Clip.load(start)
  await train(clip, await trainingSet(loaded), { ...values, epochs: Number(values.epochs), out: join(values.out, 'run') })
  await clip.save(join(values.out, 'model'), { dtype: 'f16' })
  const scores = await evaluate(await Clip.load(join(values.out, 'model')), await testSets(loaded))
  const top1 = Object.fromEntries(Object.entries(scores).map(([vendor, { top1, top5 }]) => [vendor, { top1, top5 }]))
  writeFileSync(join(values.out, 'model', 'scores.json'), `${JSON.stringify(top1, null, 2)}\n`)
  console.log(top1)
}

await main()
