/**
 * Fine-tunes a small CLIP on one domain and measures what was gained in it and kept outside it: R-Adapter against full
 * fine-tuning (same objective) and WiSE-FT of it, several seeds, the same number of learning rates for each, everything
 * chosen on the validation split. Test and out-of-distribution sets choose nothing.
 *
 *   node bench/real/compare.mjs MODEL DATA RESULTS [--seeds 0,1,2] [--epochs 6] [--batch 64] [--tau 0.01|model]
 *
 * DATA is what prepare.mjs wrote. RESULTS.json gets every run, RESULTS.md the table. A run that is there already is not
 * done again, so the program can be stopped and started.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { Clip, FullFineTuning, MpmNceLoss, RAdapter, Trainer } = require('../../dist/index.js')
const { native } = require('../../dist/native.js')
const { openDataset } = require('../../dist/data/open-dataset.js')
const { chooseAlphaOn, evaluateAlphas } = require('../../dist/train/sweep.js')
const { evaluate } = require('../../dist/train/evaluate.js')
const { DecodedImages } = require('../../dist/train/features.js')

const {
  values: args,
  positionals: [model, folder, results],
} = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: 'string', default: '0,1,2' },
    epochs: { type: 'string', default: '6' },
    batch: { type: 'string', default: '64' },
    tau: { type: 'string', default: '0.01' },
  },
})
const RATES = { 'r-adapter': [2e-4, 5e-4, 1e-3], full: [1e-5, 3e-5, 1e-4] }
const WISE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
const seeds = args.seeds.split(',').map(Number)

const set = async (name, path, task) => ({ name, data: await openDataset(join(folder, path)), ...(task ? { task } : {}) })
const train = await openDataset(join(folder, 'pacs64-photo/train'))
const validation = await set('validation', 'pacs64-photo/val')
const tests = await Promise.all([
  set('photo', 'pacs64-photo/test'),
  set('art', 'pacs64-art/test'),
  set('cartoon', 'pacs64-cartoon/test'),
  set('sketch', 'pacs64-sketch/test'),
  set('tin64', 'tin64_val/test'),
  set('flickr8k', 'flickr8k/test.jsonl', 'retrieval'),
])
const decoded = new DecodedImages()

/** Percent of each set, the means that the tables show. */
function summary(evaluation) {
  const percent = (x) => Math.round(x * 10000) / 100
  const top1 = (name) => percent(evaluation[name].top1)
  const { imageToText, textToImage } = evaluation.flickr8k
  const out = Object.fromEntries(['photo', 'art', 'cartoon', 'sketch', 'tin64'].map((name) => [name, top1(name)]))
  out.ood = Math.round(((out.art + out.cartoon + out.sketch) / 3) * 100) / 100
  out.flickr = percent((imageToText.r10 + textToImage.r10) / 2)
  return out
}

const file = `${results}.json`
const state = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { runs: [] }
const save = () => writeFileSync(file, `${JSON.stringify(state, null, 1)}\n`)

/** Trains once and sweeps α on validation; with `testing`, measures the test sets too. */
async function run(method, lr, seed, testing, target) {
  const clip = await Clip.load(model)
  const trained = method === 'r-adapter' ? new RAdapter(clip, { seed }) : await FullFineTuning.create(clip)
  const trainer = new Trainer(clip, {
    method: trained,
    objective: new MpmNceLoss({ temperature: args.tau === 'model' ? Math.exp(-(await clip.logitScale.item())) : Number(args.tau) }),
    data: train,
    epochs: Number(args.epochs),
    batch: Number(args.batch),
    lr,
    seed,
    weightDecay: method === 'full' ? 0.1 : 0,
    ema: method === 'r-adapter',
  })
  let end
  for await (const event of trainer.run()) end = event
  const options = { averages: trainer.averages, decoded }
  const choice = await chooseAlphaOn(clip, trained, validation, { ...options, alphas: WISE })
  const record = {
    method,
    lr,
    seed,
    seconds: Math.round(end.seconds * 10) / 10,
    alpha: choice.alpha,
    score: choice.score,
    validation: choice.tried,
  }
  if (testing) {
    // As good on validation as another method's run, as near to the pretrained model as that allows.
    record.matched = target === undefined ? undefined : (choice.tried.find((t) => t.score >= target)?.alpha ?? 1)
    const alphas = [0.5, choice.alpha, 1, ...(record.matched === undefined ? [] : [record.matched])]
    const points = await evaluateAlphas(clip, trained, [...new Set(alphas)], tests, options)
    record.at = Object.fromEntries(points.map((p) => [p.alpha, summary(p.evaluation)]))
  }
  trainer.dispose()
  trained.dispose?.()
  clip.dispose()
  return record
}

async function runOnce(method, lr, seed, testing, target) {
  const known = state.runs.find(
    (r) => r.method === method && r.lr === lr && r.seed === seed && (r.at || !testing) && (target === undefined || r.matched !== undefined),
  )
  if (known) return known
  const record = await run(method, lr, seed, testing, target)
  state.runs = [...state.runs.filter((r) => r.method !== method || r.lr !== lr || r.seed !== seed), record]
  save()
  const { alpha, at, seconds, validation } = record
  process.stderr.write(`${method} lr ${lr} seed ${seed}: ${seconds} s, alpha ${alpha}, ${JSON.stringify(at ?? validation)}\n`)
  return record
}

if (!state.zeroShot) {
  const clip = await Clip.load(model)
  state.zeroShot = summary(await evaluate(clip, tests, { decoded }))
  clip.dispose()
  save()
}
// The learning rate: by validation of the first seed; for full fine-tuning as it is trained (α 1), as WiSE-FT takes it.
const rates = {}
for (const method of Object.keys(RATES)) {
  const tried = []
  for (const lr of RATES[method]) tried.push(await runOnce(method, lr, seeds[0], false))
  const score = (r) => (method === 'full' ? r.validation.find((v) => v.alpha === 1).score : r.score)
  rates[method] = tried.reduce((a, b) => (score(b) > score(a) ? b : a)).lr
}
for (const seed of seeds) {
  const full = await runOnce('full', rates.full, seed, true)
  await runOnce('r-adapter', rates['r-adapter'], seed, true, full.validation.find((v) => v.alpha === 1).score)
}

const COLUMNS = ['photo', 'ood', 'art', 'cartoon', 'sketch', 'tin64', 'flickr']
const variants = {
  'full fine-tuning': ['full', () => 1],
  'full + WiSE-FT (α on validation)': ['full', (r) => r.alpha],
  'full + WiSE-FT (α 0.5)': ['full', () => 0.5],
  'R-Adapter (α 1)': ['r-adapter', () => 1],
  'R-Adapter (α on validation)': ['r-adapter', (r) => r.alpha],
  'R-Adapter (α 0.5, the paper)': ['r-adapter', () => 0.5],
  'R-Adapter (validation as full fine-tuning)': ['r-adapter', (r) => r.matched],
}
const rows = Object.fromEntries(
  Object.entries(variants).map(([name, [method, alphaOf]]) => {
    const lr = rates[method]
    return [
      name,
      {
        lr,
        seeds: seeds.map((seed) => {
          const r = state.runs.find((x) => x.method === method && x.lr === lr && x.seed === seed)
          return { alpha: alphaOf(r), ...r.at[alphaOf(r)] }
        }),
      },
    ]
  }),
)
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length
const cell = (values) => `${mean(values).toFixed(1)} (${values.map((v) => v.toFixed(1)).join(', ')})`
const line = (cells) => `| ${cells.join(' | ')} |`
const difference = (a, b) =>
  line([`${a} − ${b}`, '', '', ...COLUMNS.map((c) => cell(rows[a].seeds.map((s, i) => s[c] - rows[b].seeds[i][c])))])
const about = native.backendInfo()
writeFileSync(
  `${results}.md`,
  [
    `# R-Adapter against full fine-tuning and WiSE-FT, ${seeds.length} seeds`,
    '',
    `${new Date().toISOString().slice(0, 10)}, ${os.cpus()[0].model}, level ${about.level}, ${about.threads} threads, bf16; ${train.length} photographs of 7 classes, ${args.epochs} epochs, batch ${args.batch}, MPM-NCE with τ ${args.tau === 'model' ? 'as pretrained' : args.tau}, δ 0.05, ε 0.02.`,
    'Top-1 in percent, mean and (each seed); `ood` is the mean of art, cartoon and sketch; `tin64` is zero-shot over 200 classes known from pretraining;',
    `\`flickr\` is the mean of both ways R@10. Learning rates tried: ${JSON.stringify(RATES)}; chosen on validation with the first seed; α per run.`,
    '',
    '    node bench/real/prepare.mjs PACKS DATA',
    `    node bench/real/compare.mjs MODEL DATA RESULTS --seeds ${args.seeds} --epochs ${args.epochs} --batch ${args.batch} --tau ${args.tau}`,
    '',
    line(['', 'lr', 'α', ...COLUMNS]),
    line(['---', '---', '---', ...COLUMNS.map(() => '---')]),
    line(['zero-shot', '', 0, ...COLUMNS.map((c) => state.zeroShot[c].toFixed(1))]),
    ...Object.entries(rows).map(([name, { lr, seeds: all }]) =>
      line([name, lr, [...new Set(all.map((s) => s.alpha))].join(', '), ...COLUMNS.map((c) => cell(all.map((s) => s[c])))]),
    ),
    difference('R-Adapter (validation as full fine-tuning)', 'full fine-tuning'),
    difference('R-Adapter (α on validation)', 'full fine-tuning'),
    difference('R-Adapter (α on validation)', 'full + WiSE-FT (α on validation)'),
    difference('R-Adapter (α 0.5, the paper)', 'full + WiSE-FT (α 0.5)'),
    '',
  ].join('\n'),
)
