// npm run demo: the main job on real images, in a few minutes on two cores.
//
// A small CLIP (demo/model) names emoji as four vendors draw them. It is taught a fifth vendor's style from six in ten of
// its drawings, by full fine-tuning and by R-Adapter, and asked to name emoji it was not taught: in that style, in two
// styles that nobody taught it, and in the styles that it knew. docs/demo.md says more.

import { cpus } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Clip, merge } from '../dist/index.mjs'
import { CACHE, loadConcepts, OUT_OF_DISTRIBUTION, PRETRAINED, TAUGHT, UNSEEN } from './emoji/index.mjs'
import { PACKAGES } from './emoji/packages.mjs'
import { chooseAlpha, drawSets, fineTune, measure } from './experiment.mjs'
import { elapsed, stage, table } from './progress.mjs'
import { agreement } from './reload.mjs'

const MODEL = fileURLToPath(new URL('model', import.meta.url))
const MERGED = join(CACHE, 'merged')

/** A method's scores at the papers' α = 0.5 and at the α that names most validation pictures. */
async function measureAlphas(name, { clip, tuned, sets, rows }) {
  const chosen = await stage('  α, on validation', () => chooseAlpha(clip, tuned, sets.validation))
  for (const [alpha, why] of [
    [0.5, "the papers'"],
    [chosen.alpha, 'by validation'],
  ]) {
    const view = await tuned.method.at(alpha, tuned.averages)
    rows.push([`${name}, α = ${alpha} ${why}`, await stage(`  evaluation, α = ${alpha}`, () => measure(clip, sets, view))])
    await view.dispose()
  }
}

/** Full fine-tuning, then WiSE-FT: the same weights, some of the way back to the start. */
async function fullFineTuning(sets, rows) {
  const clip = await Clip.load(MODEL)
  const tuned = await stage('Full fine-tuning', () => fineTune(clip, sets.train, 'full'))
  rows.push(['full fine-tuning', await stage('  evaluation', () => measure(clip, sets))])
  await measureAlphas('WiSE-FT', { clip, tuned, sets, rows })
  clip.dispose()
}

/** R-Adapter, then merged into an ordinary checkpoint, saved and read again. @returns whether the folder agrees */
async function rAdapter(sets, rows) {
  const clip = await Clip.load(MODEL)
  const tuned = await stage('R-Adapter', () => fineTune(clip, sets.train, 'adapter'))
  await measureAlphas('R-Adapter', { clip, tuned, sets, rows })
  const merged = await merge(clip, tuned.method, { alpha: 0.5, averages: tuned.averages })
  await merged.save(MERGED, { dtype: 'f32' })
  merged.dispose()
  const view = await tuned.method.at(0.5, tuned.averages)
  const same = await stage('Merged with α = 0.5, saved, reloaded', () => agreement({ model: MODEL, merged: MERGED, view }, sets.test))
  await view.dispose()
  const reloaded = await Clip.load(MERGED)
  rows.push(['  merged and reloaded', await stage('  evaluation', () => measure(reloaded, sets))])
  return same
}

function printTable(rows) {
  const head = [
    'top-1 % on emoji not taught',
    `taught: ${TAUGHT}`,
    ...OUT_OF_DISTRIBUTION.map((vendor) => `OOD: ${vendor}`),
    'known: 4 vendors',
  ]
  const cells = ({ test, outside, known }) => [test, ...outside, known].map((value) => value.toFixed(1))
  console.log(
    `\n${table(
      head,
      rows.map(([name, scores]) => [name, ...cells(scores)]),
    )}\n`,
  )
}

async function main() {
  console.log(`Cambium demo on ${cpus().length} × ${cpus()[0]?.model}`)
  const vendors = [...PRETRAINED, ...UNSEEN]
  const loaded = await stage('Emoji packages, checked', () => loadConcepts(vendors))
  const sets = await stage('Pictures', async () => {
    const drawn = await drawSets(loaded)
    return { ...drawn, note: `${drawn.pictures} drawings, ${loaded.concepts.length} names` }
  })
  const rows = []
  const clip = await Clip.load(MODEL)
  rows.push(['zero-shot', await stage('Zero-shot', () => measure(clip, sets))])
  clip.dispose()
  await fullFineTuning(sets, rows)
  const same = await rAdapter(sets, rows)
  printTable(rows)
  console.log(`The merged model is in ${MERGED}: an ordinary CLIP in Hugging Face form.`)
  console.log(`Drawings:\n${vendors.map((vendor) => `  ${PACKAGES[vendor].attribution} (${PACKAGES[vendor].licence})`).join('\n')}`)
  console.log(`${elapsed()} in all, installing and building apart.`)
  if (!same.agrees) throw new Error(`the reloaded folder disagrees: ${same.note}`)
}

await main()
