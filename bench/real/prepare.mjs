/**
 * Unpacks image packs into the folders that `cambium train` and `cambium eval` read.
 *
 *   node bench/real/prepare.mjs PACKS OUT
 *
 * PACKS holds image packs (packs.mjs). OUT receives
 *
 *   pacs64-{photo,art,cartoon,sketch}/{train,val,test}/CLASS/x.jpg   train, val: photo alone; the others are test sets
 *   {aid64,rsscn7_64,gtsrb32,dtd10_64}/{train,val,test}/CLASS/x.jpg, tin64_val/test/CLASS/x.jpg
 *   flickr8k/{train,dev,test}.jsonl + images/   lines {"image": path relative to the file, "captions": [...]}
 *   SET/classes.json                      {"classes": {folder: name}, "templates": [...]}
 *
 * The split is the pack's own, so test images choose nothing. Files are written once: OUT must not hold these sets yet.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import process from 'node:process'
import { fileName, openPack, openTask, writeClasses, writeRecord } from './packs.mjs'

const CLASS_SETS = ['aid64', 'rsscn7_64', 'gtsrb32', 'dtd10_64', 'tin64_val']
const domains = { photo: 'photo', art_painting: 'art', cartoon: 'cartoon', sketch: 'sketch' }

function writeDomains(packs, out) {
  const pack = openPack(packs, 'pacs64')
  const task = openTask(packs, 'pacs64')
  const counts = {}
  for (const [split, indices] of Object.entries(task.split)) {
    for (const index of indices) {
      const record = pack.records[index]
      const [domain, label] = record[2].split('/')
      if (domain !== 'photo' && split !== 'test') continue
      const set = join(`pacs64-${domains[domain]}`, split)
      writeRecord(pack, record, join(out, set, label))
      counts[set] = (counts[set] ?? 0) + 1
    }
  }
  for (const [domain, short] of Object.entries(domains)) {
    const names = Object.entries(task.names).filter(([label]) => label.startsWith(`${domain}/`))
    writeClasses(
      join(out, `pacs64-${short}`),
      Object.fromEntries(names.map(([label, name]) => [label.slice(domain.length + 1), name])),
      task.templates,
    )
  }
  return counts
}

/** A set whose labels are its classes. */
function writeClassSet(packs, out, name) {
  const pack = openPack(packs, name)
  const task = openTask(packs, name)
  const counts = {}
  for (const [split, indices] of Object.entries(task.split)) {
    for (const [at, index] of indices.entries()) {
      const record = pack.records[index]
      // Names repeat between folders of the original (traffic signs by track): the place in the split keeps them apart.
      const folder = join(out, name, split, record[2])
      writeRecord(
        pack,
        existsSync(join(folder, fileName(record))) ? [...record.slice(0, 3), `${at}-${basename(record[3])}`] : record,
        folder,
      )
    }
    if (indices.length > 0) counts[`${name}/${split}`] = indices.length
  }
  writeClasses(join(out, name), task.names, task.templates)
  return counts
}

function writeCaptions(packs, out) {
  const pack = openPack(packs, 'flickr8k_112')
  const folder = join(out, 'flickr8k')
  const lines = { train: [], dev: [], test: [] }
  for (const record of pack.records) {
    const name = record[2]
    const split = pack.split[name]
    if (!(split in lines)) continue
    const file = writeRecord(pack, record, join(folder, 'images'))
    lines[split].push(JSON.stringify({ image: join('images', basename(file)), captions: pack.captions[name] }))
  }
  for (const [split, rows] of Object.entries(lines)) writeFileSync(join(folder, `${split}.jsonl`), `${rows.join('\n')}\n`)
  return Object.fromEntries(Object.entries(lines).map(([split, rows]) => [`flickr8k/${split}`, rows.length]))
}

const [packs, out] = process.argv.slice(2)
if (!packs || !out) {
  process.stderr.write('usage: node bench/real/prepare.mjs PACKS OUT\n')
  process.exit(2)
}
for (const set of ['pacs64-photo', 'flickr8k', ...CLASS_SETS]) {
  if (!existsSync(join(out, set))) continue
  process.stderr.write(`${join(out, set)}: expected no such folder, got one; give another OUT\n`)
  process.exit(1)
}
mkdirSync(dirname(out), { recursive: true })
const counts = { ...writeDomains(packs, out), ...writeCaptions(packs, out) }
for (const name of CLASS_SETS) Object.assign(counts, writeClassSet(packs, out, name))
for (const [set, count] of Object.entries(counts)) process.stdout.write(`${set}: ${count}\n`)
