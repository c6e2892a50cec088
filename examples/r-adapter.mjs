// R-Adapter (Kim, Min, Kim & Kwak, ECCV 2024) step by step: from a pretrained CLIP and a folder of images, a class a
// folder, to one CLIP that has learnt them and keeps what it knew.
//
//   node examples/r-adapter.mjs CLIP IMAGES OUT
import { join } from 'node:path'
import process from 'node:process'
import { Clip, chooseAlphaOn, evaluate, MpmNceLoss, merge, openDataset, RAdapter, saveAdapter, splitDataset, Trainer } from 'cambium'

const [model, images, out] = process.argv.slice(2)
if (!out) {
  console.error('usage: node examples/r-adapter.mjs CLIP IMAGES OUT')
  process.exit(2)
}

const clip = await Clip.load(model)
const data = await openDataset(images, { fallback: { templates: ['a photo of a {}.'] } })
const { train, validation } = splitDataset(data, 0.2)
const held = { name: 'validation', data: validation }

// Adapters h(z) = z + γ/(1 − p) z W after attention and feed-forward of every block of both towers. W starts at zero, so this
// is still the same model; γ ~ Bernoulli(1 − p) drops each adapter in a share p of the steps.
const adapter = new RAdapter(clip, { drop: 0.2 })

// All images of one class are positives of each other; negatives get a margin.
const objective = new MpmNceLoss({ margin: 0.05, epsilon: 0.02, temperature: 0.01 })

// The adapters alone train; W̃ ← m W̃ + (1 − m) W is accumulated at every step.
const batch = Math.min(64, train.length)
const trainer = new Trainer(clip, { method: adapter, objective, data: train, epochs: 5, batch, lr: 5e-4, ema: true })
for await (const event of trainer.run()) {
  if (event.type === 'step') console.log(`step ${event.step}/${event.steps}: loss ${event.loss.toFixed(4)}`)
}
const { averages } = trainer

// Re-scaling: W_ens = W_org (α W̃ + I) lies between the pretrained model (α = 0) and the tuned one (α = 1). No training again.
const { alpha, tried } = await chooseAlphaOn(clip, adapter, held, { averages })
for (const { alpha, score } of tried) console.log(`alpha ${alpha.toFixed(1)}: ${(100 * score).toFixed(1)} % on validation`)

// Folded into the weights it is an ordinary CLIP, of the same size and speed.
const merged = await merge(clip, adapter, { alpha, averages })
await saveAdapter(adapter, join(out, 'adapter'), averages, { alpha })
await merged.save(join(out, 'merged'))

const [before, after] = [await evaluate(clip, [held]), await evaluate(merged, [held])]
console.log(
  `alpha ${alpha}: ${(100 * before.validation.top1).toFixed(1)} % -> ${(100 * after.validation.top1).toFixed(1)} %, saved in ${out}`,
)
