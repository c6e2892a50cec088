// The demo's experiment: its sets, the two ways of fine-tuning with their settings, and how results are measured.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { chooseAlphaOn, DecodedImages, evaluate, FeatureCache, FullFineTuning, MpmNceLoss, RAdapter, Trainer } from '../dist/index.mjs'
import { datasetOf } from './emoji/datasets.mjs'
import { CACHE, PRETRAINED, TAUGHT, UNSEEN } from './emoji/index.mjs'
import { drawPictures } from './emoji/pictures.mjs'
import { status } from './progress.mjs'

const PIXELS = 64
const PICTURES = join(CACHE, 'pictures')

/**
 * Chosen on the validation concepts of the taught vendor, with as many settings tried for one method as for the other;
 * docs/demo.md has them all. The objective is the same for both.
 */
export const SETTINGS = {
  shared: { epochs: 8, batch: 128, seed: 0, augment: { scale: [0.7, 1], ratio: [3 / 4, 4 / 3] } },
  full: { lr: 1e-4, weightDecay: 0.1, ema: false },
  adapter: { lr: 1e-3, weightDecay: 0, ema: true },
  adapterShape: { drop: 0.2 },
}

/** Where α of WiSE-FT and of R-Adapter may lie when validation chooses. */
export const ALPHAS = [0.25, 0.5, 0.75, 1]

/**
 * Rasterises what is needed.
 * @returns { train, validation, test, outside, known, pictures }; sets are { name, data }, `outside` and `known` lists
 */
export async function drawSets({ packages, concepts }) {
  mkdirSync(PICTURES, { recursive: true })
  let pictures = 0
  const draw = async (vendor, split) => {
    status(`drawing ${vendor} ${split}`)
    const some = concepts.filter((concept) => concept.split === split)
    const drawn = await drawPictures(PICTURES, packages[vendor], vendor, some, PIXELS)
    pictures += drawn.length
    return { name: `${vendor} ${split}`, data: datasetOf(drawn, some) }
  }
  const tests = async (vendors) => {
    const sets = []
    for (const vendor of vendors) sets.push(await draw(vendor, 'test'))
    return sets
  }
  const [train, validation] = [await draw(TAUGHT, 'train'), await draw(TAUGHT, 'val')]
  const [test, ...outside] = await tests(UNSEEN)
  return { train, validation, test, outside, known: await tests(PRETRAINED), pictures }
}

/**
 * Fine-tunes a model on a set; `kind` is 'full' or 'adapter'.
 * @returns { method, averages, note }
 */
export async function fineTune(clip, { data }, kind, settings = SETTINGS) {
  const method = kind === 'full' ? await FullFineTuning.create(clip) : new RAdapter(clip, settings.adapterShape)
  const temperature = Math.exp(-(await clip.logitScale.item()))
  const objective = new MpmNceLoss({ margin: 0.05, epsilon: 0.02, temperature })
  const trainer = new Trainer(clip, { method, objective, data, ...settings.shared, ...settings[kind] })
  let loss = Number.NaN
  for await (const event of trainer.run()) {
    if (event.type !== 'step') continue
    loss = event.loss
    status(`step ${event.step} of ${event.steps}, loss ${loss.toFixed(3)}, ${event.imagesPerSecond.toFixed(0)} images/s`)
  }
  const millions = method.parameters.reduce((sum, parameter) => sum + parameter.count, 0) / 1e6
  return {
    method,
    averages: trainer.averages,
    note: `${trainer.steps} steps, ${millions.toFixed(2)} M weights trained, last loss ${loss.toFixed(2)}`,
  }
}

const decoded = new DecodedImages()
const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length

/**
 * Top-1 in %, among the names of all test concepts: of the taught vendor's drawings, of each vendor's outside, and of the
 * known vendors' (mean).
 * @param injection a method's view, or undefined for the model as it is
 */
export async function measure(clip, sets, injection) {
  const all = [sets.test, ...sets.outside, ...sets.known]
  const result = await evaluate(clip, all, { injection, batch: 128, cache: new FeatureCache(), decoded })
  const top1 = ({ name }) => 100 * result[name].top1
  return { test: top1(sets.test), outside: sets.outside.map(top1), known: mean(sets.known.map(top1)) }
}

/** The α that names most validation pictures: { alpha, score, tried }. */
export const chooseAlpha = (clip, { method, averages }, validation) =>
  chooseAlphaOn(clip, method, validation, { alphas: ALPHAS, averages, batch: 128, decoded })
