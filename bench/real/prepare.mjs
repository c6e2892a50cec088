/**
 * Unpacks image packs into the folders that `cambium train` and `cambium eval` read.
 *
 *   node bench/real/prepare.mjs PACKS OUT
 *
 * PACKS holds NAME.jpgpack (JPEG files one after another), NAME.json (records [offset, bytes, label, path], sha256) and
 * NAME.task.json (split, class names, templates). OUT receives
 *
 *   pacs64-{photo,art,cartoon,sketch}/{train,val,test}/CLASS/x.jpg   train, val: photo alone; the others are test sets
 *   tin64_val/test/CLASS/x.jpg
 *   flickr8k/{dev,test}.jsonl + images/   lines {"image": path relative to the file, "captions": [...]}
 *   SET/classes.json                      {"classes": {folder: name}, "templates": [...]}
 *
 * The split is the pack's own, so test images choose nothing. Files are written once: OUT must not hold these sets yet.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import process from 'node:process'

const domains = { photo: 'photo', art_painting: 'art', cartoon: 'cartoon', sketch: 'sketch' }

/** Reads a pack and checks its bytes against the recorded sha256. */
function openPack(folder, name) {
  const index = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'))
  const bytes = readFileSync(join(folder, `${name}.jpgpack`))
  const sum = createHash('sha256').update(bytes).digest('hex')
  if (sum !== index.sha256) throw new Error(`${name}.jpgpack: expected sha256 ${index.sha256}, got ${sum}`)
  return { ...index, bytes }
}

function openTask(folder, name) {
  return JSON.parse(readFileSync(join(folder, `${name}.task.json`), 'utf8'))
}

/** Writes one record under a folder; the content is JPEG whatever the original path ended in. */
function writeRecord(pack, record, folder) {
  const [offset, length, , original] = record
  const file = join(folder, basename(original).replace(/\.\w+$/, '.jpg'))
  mkdirSync(folder, { recursive: true })
  writeFileSync(file, pack.bytes.subarray(offset, offset + length), { flag: 'wx' })
  return file
}

function writeClasses(folder, classes, templates) {
  writeFileSync(join(folder, 'classes.json'), `${JSON.stringify({ classes, templates }, null, 2)}\n`)
}

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

function writeEverydayClasses(packs, out) {
  const pack = openPack(packs, 'tin64_val')
  const task = openTask(packs, 'tin64_val')
  for (const index of task.split.test) {
    const record = pack.records[index]
    writeRecord(pack, record, join(out, 'tin64_val', 'test', record[2]))
  }
  writeClasses(join(out, 'tin64_val'), task.names, task.templates)
  return { 'tin64_val/test': task.split.test.length }
}

function writeCaptions(packs, out) {
  const pack = openPack(packs, 'flickr8k_112')
  const folder = join(out, 'flickr8k')
  const lines = { dev: [], test: [] }
  for (const record of pack.records) {
    const name = record[2]
    const split = pack.split[name]
    if (!(split in lines)) continue
    const file = writeRecord(pack, record, join(folder, 'images'))
    lines[split].push(JSON.stringify({ image: join('images', basename(file)), captions: pack.captions[name] }))
  }
  for (const [split, rows] of Object.entries(lines)) writeFileSync(join(folder, `${split}.jsonl`), `${rows.join('\n')}\n`)
  return { 'flickr8k/dev': lines.dev.length, 'flickr8k/test': lines.test.length }
}

const [packs, out] = process.argv.slice(2)
if (!packs || !out) {
  process.stderr.write('usage: node bench/real/prepare.mjs PACKS OUT\n')
  process.exit(2)
}
for (const set of ['pacs64-photo', 'tin64_val', 'flickr8k']) {
  if (!existsSync(join(out, set))) continue
  process.stderr.write(`${join(out, set)}: expected no such folder, got one; give another OUT\n`)
  process.exit(1)
}
mkdirSync(dirname(out), { recursive: true })
const counts = { ...writeDomains(packs, out), ...writeEverydayClasses(packs, out), ...writeCaptions(packs, out) }
for (const [set, count] of Object.entries(counts)) process.stdout.write(`${set}: ${count}\n`)
