// DIKI (Tang et al., ECCV 2024) step by step: one CLIP, one image folder after another (a class a folder), and at the end a model
// that knows all of them, is not told which one an image is from, and answers as before what belongs to none.
//
//   node examples/diki.mjs [--lr 5] CLIP IMAGES IMAGES …
import process from 'node:process'
import { parseArgs } from 'node:util'
import {
  ClassCrossEntropy,
  Clip,
  Diki,
  DikiStack,
  encodeImages,
  Gaussian,
  Moments,
  openDataset,
  promptsOf,
  splitDataset,
  Tensor,
  TextBank,
  Trainer,
  weightOf,
} from 'cambium'

// The paper's rate, for a ViT-B/16; a small model wants less.
const { values, positionals } = parseArgs({ allowPositionals: true, options: { lr: { type: 'string', default: '5' } } })
const lr = Number(values.lr)
const [model, ...folders] = positionals
if (folders.length === 0) {
  console.error('usage: node examples/diki.mjs [--lr 5] CLIP IMAGES IMAGES …')
  process.exit(2)
}

const clip = await Clip.load(model)
const dimension = clip.config.projectionDim
const tasks = []

for (const [t, folder] of folders.entries()) {
  const data = await openDataset(folder, { fallback: { templates: ['a photo of a {}.'] } })
  const { train, validation: test } = splitDataset(data, 0.2)

  // What images of this task look like to the pretrained model: the mean and the covariance of their features. The images
  // themselves are not needed any more when the next task comes.
  const moments = new Moments(dimension)
  await moments.add((await encodeImages(clip, train)).values)
  const gaussian = await Gaussian.fit(moments)

  // In the first blocks of both towers, l keys and values beside the frozen attention:
  //   out = W_O (softmax(Q Kᵀ/√d) V + softmax(Q K_rᵀ/√d) V_r) + b_O
  // V_r starts at zero, so this is still the same model. The bank is this task's alone: no other task's can change.
  const bank = new Diki(clip, { depth: 8, length: 8 }, t)
  const batch = Math.min(128, train.length)
  const prompts = promptsOf(data)
  const trainer = new Trainer(clip, {
    ...{ method: bank, data: train, classTexts: prompts.map(({ prompts: [first] }) => first), augment: false },
    ...{ objective: new ClassCrossEntropy(clip.logitScale), optimizer: { name: 'sgd' }, clipNorm: 0 },
    ...{ epochs: 5, batch, lr, minLr: lr * 1e-3, warmup: 0, schedule: 'cosine-to-min' },
  })
  for await (const event of trainer.run()) {
    if (event.type === 'step') console.log(`task ${t}, step ${event.step}/${event.steps}: loss ${event.loss.toFixed(4)}`)
  }
  tasks.push({ folder, gaussian, bank, test, classes: prompts })
}

// s_t = ln N(x; μ_t, Σ_t) of the frozen feature x; t* = argmax s_t; w = σ(s_t*/D − 1). Each image for itself: no batch decides.
async function select(features) {
  const densities = await Promise.all(tasks.map(({ gaussian }) => gaussian.logDensity(features)))
  const task = Int32Array.from(densities[0], (_, i) => densities.reduce((best, s, t) => (s[i] > densities[best][i] ? t : best), 0))
  return { task, weight: Float32Array.from(task, (t, i) => weightOf(densities[t][i], dimension, { slope: 1, offset: 1 })) }
}

// The banks of all tasks, stacked once. Task and weight follow each image into both towers; class texts are encoded once for
// each task and each weight of a grid.
const stack = new DikiStack(tasks.map(({ bank }) => bank))
const texts = new TextBank(clip, (t, weight) => tasks[t].bank.at(weight))

for (const { folder, test, classes } of tasks) {
  const frozen = await encodeImages(clip, test)
  const { task, weight } = await select(frozen.values)
  const { values } = await encodeImages(clip, test, (samples) => {
    const rows = Array.from(samples, (sample) => frozen.samples.indexOf(sample))
    const [tasks, weights] = [Int32Array.from(rows, (row) => task[row]), Float32Array.from(rows, (row) => weight[row])]
    return stack.at(Tensor.from(tasks, [rows.length], 'i32'), Tensor.from(weights, [rows.length]))
  })
  let right = 0
  await texts.scores(values, classes, { task, textWeight: weight }, (scores, first, rows) => {
    for (let row = 0; row < rows; row++) {
      const cosines = scores.subarray(row * classes.length, (row + 1) * classes.length)
      const label = test.samples[frozen.samples[first + row]].label
      if (cosines.indexOf(Math.max(...cosines)) === label) right++
    }
  })
  const mean = weight.reduce((sum, w) => sum + w, 0) / weight.length
  console.log(`${folder}: ${((100 * right) / weight.length).toFixed(1)} %, mean weight ${mean.toFixed(2)}`)
}
