/**
 * How well tasks are told apart by the density of frozen features, and what weight images get whose own task was not learned: for
 * estimates of the covariance and calibrations. Trains nothing; validation images only.
 *
 *   node bench/real/selection.mjs MODEL DATA gtsrb32:6,cifar10:25 [--unseen dtd10,mnist] [--seed 0]
 *
 * DATA is what continual/prepare.mjs wrote; sets come with the shots of a class that they are learned from.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { Clip, encodeImages, fewShot, fitDensity, openDataset, selectTasks } = require('../../dist/index.js')

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { unseen: { type: 'string', default: '' }, seed: { type: 'string', default: '0' } },
})
const [model, data, list] = positionals
const clip = await Clip.load(model)
const width = clip.config.projectionDim
const validation = async (name) => (await encodeImages(clip, await openDataset(join(data, name, 'val')))).values

const tasks = []
for (const entry of list.split(',')) {
  const [name, shots] = entry.split(':')
  const train = fewShot(await openDataset(join(data, name, 'train')), Number(shots), Number(values.seed))
  const { values: rows, samples } = await encodeImages(clip, train)
  tasks.push({ name, rows, ids: Array.from(samples, (sample) => train.samples[sample].id), validation: await validation(name) })
}
const unseen = []
for (const name of values.unseen.split(',').filter(Boolean)) unseen.push(await validation(name))

const mean = (numbers) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length
const strict = { calibration: 'fitted', typical: 0.8, quantile: 0.3 }
const mild = { calibration: 'fitted', typical: 0.95, quantile: 0.05 }
const paper = { ...strict, calibration: 'paper' }
process.stdout.write('| shrinkage | calibration | right task | weight, learned | weight, not learned |\n|---|---|---|---|---|\n')
for (const shrinkage of ['none', 'ledoit-wolf', 0.05, 0.1, 0.3]) {
  for (const [label, calibration] of Object.entries({ paper, 'median 0.95, 0.05 a half': mild, 'median 0.8, 0.3 a half': strict })) {
    const densities = []
    for (const { rows, ids } of tasks) densities.push(await fitDensity(rows, width, ids, { shrinkage, ...calibration }, () => {}))
    const [right, learned, others] = [[], [], []]
    for (const [own, { validation: rows }] of tasks.entries()) {
      const { task, weight } = await selectTasks(rows, densities)
      right.push(mean(Array.from(task, (t) => (t === own ? 1 : 0))))
      learned.push(mean(weight))
      const rest = densities.filter((_, t) => t !== own)
      others.push(mean((await selectTasks(rows, rest)).weight))
    }
    for (const rows of unseen) others.push(mean((await selectTasks(rows, densities)).weight))
    const [a, b, c] = [right, learned, others].map((numbers) => mean(numbers).toFixed(2))
    process.stdout.write(`| ${shrinkage} | ${label} | ${a} | ${b} | ${c} |\n`)
  }
}
