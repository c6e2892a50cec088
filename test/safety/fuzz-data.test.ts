import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32, deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { batches } from '../../lib/data/batches.js'
import { Dataset } from '../../lib/data/dataset.js'
import { decodeImage } from '../../lib/data/decode.js'
import { openDataset, readClassFile } from '../../lib/data/open-dataset.js'
import { ImagePreprocessor } from '../../lib/formats/preprocessor.js'
import { PREDICTION_FILE, readPredictions } from '../../lib/train/prediction-file.js'
import { LOG_FILE, readRunLog } from '../../lib/train/run-log.js'
import fc from '../fast-check.js'
import { temporaryFolder } from '../temporary-folder.js'
import { damage, fuzzing, headDamage, nested, readsOrRefuses } from './mutations.js'

// Images and tables of any contents: a right result or an error with a code that names the file.
const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const preprocessor = ImagePreprocessor.clip(24)
const fixtures = join(__dirname, '../fixtures/images')

/** One image through the loader. */
async function load(bytes: Uint8Array): Promise<Float32Array> {
  const set = new Dataset([{ id: 'image', image: { bytes, name: 'image' } }])
  for await (const batch of batches(set, { batchSize: 1, preprocessor })) return batch.pixels
  throw new Error('no batch')
}

describe('images', () => {
  const names = readdirSync(fixtures).filter((name) => /\.(png|jpg)$/.test(name))

  test.each(names)('%s with damaged bytes', async (name) => {
    const good = readFileSync(join(fixtures, name))
    await fc.assert(
      fc.asyncProperty(fc.oneof(damage, headDamage(Math.min(good.length, 200))), async (change) => {
        expect(['read', 'E_IMAGE']).toContain(await readsOrRefuses(() => load(change(good))))
      }),
      fuzzing(1),
    )
  })

  test.each(['webp', 'gif', 'tiff', 'avif'] as const)('a damaged %s', async (format) => {
    const good = await sharp(join(fixtures, 'wide.png')).resize(60, 40).toFormat(format).toBuffer()
    await fc.assert(
      fc.asyncProperty(headDamage(Math.min(good.length, 300)), async (change) => {
        expect(['read', 'E_IMAGE']).toContain(await readsOrRefuses(() => load(change(good))))
      }),
      fuzzing(0.5),
    )
  })

  test('a small file that says it is a huge image is refused, and nothing of its size is taken', async () => {
    const before = process.memoryUsage().rss
    for (const [width, height] of [
      [100_000, 100_000],
      [2 ** 31 - 1, 2 ** 31 - 1],
      [60_000, 3_000],
      [1, 60_000],
    ])
      expect(await readsOrRefuses(() => load(png(width, height)))).toBe('E_IMAGE')
    expect(process.memoryUsage().rss - before).toBeLessThan(400e6)
  })

  test('a bomb: 24 kB that are 196 million pixels', async () => {
    const bomb = png(14_000, 14_000, deflateSync(Buffer.alloc(14_000 * (1 + 14_000 / 8))), 1, 0)
    expect(bomb.length).toBeLessThan(100_000)
    const before = process.memoryUsage().rss
    expect(await readsOrRefuses(() => load(bomb))).toBe('E_IMAGE')
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6)
  })

  test('a line of pixels becomes no image of gigabytes', async () => {
    const line = await sharp({ create: { width: 1, height: 40_000, channels: 3, background: 'red' } })
      .png()
      .toBuffer()
    expect((await decodeImage({ bytes: line, name: 'line' })).height).toBe(40_000)
    const before = process.memoryUsage().rss
    expect(await readsOrRefuses(() => load(line))).toBe('E_IMAGE') // 24 x 960000 before the crop
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6)
  })
})

/** A PNG that says its size; its data are one line of zeros, or those given. */
function png(width: number, height: number, data = deflateSync(Buffer.alloc(1000)), depth = 8, colour = 2): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
    const frame = Buffer.alloc(8)
    frame.writeUInt32BE(data.length)
    frame.writeUInt32BE(crc32(body), 4)
    return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)])
  }
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width)
  head.writeUInt32BE(height, 4)
  head.set([depth, colour, 0, 0, 0], 8)
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  return Buffer.concat([signature, chunk('IHDR', head), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))])
}

describe('tables', () => {
  const csv = 'image,caption,label\na.png,"a ""red"" cat",cat\nb.png,"two\nlines",dog\n'
  const jsonl = '{"image":"a.png","caption":["one","two"],"label":"cat"}\n{"image":"b.png","caption":"x","label":"dog"}\n'
  const wide = [
    `image,caption\n${'"'.repeat(100_001)}`,
    `image,caption\n${','.repeat(1e5)}\n`,
    '\ufeff',
    'image\0,caption\na,b',
    `${'a,'.repeat(5e4)}`,
  ]

  test.each([
    ['table.csv', csv, wide],
    ['table.tsv', csv.replaceAll(',', '\t'), wide],
    [
      'table.jsonl',
      jsonl,
      [nested(1e5), `{"image":"a","caption":${nested(5000)}}`, '{"image":"a","label":1e400}', '{"image":{"__proto__":1}}'],
    ],
  ])('%s', async (name, good, attacks) => {
    const check = async (bytes: Buffer) => {
      writeFileSync(at(name), bytes)
      await readsOrRefuses(async () => {
        const set = await openDataset(at(name))
        for (const { label } of set.samples) expect(label === undefined || label < set.classNames.length).toBe(true)
      })
    }
    for (const attack of attacks) await check(Buffer.from(attack))
    await fc.assert(
      fc.asyncProperty(
        damage.map((change) => change(Buffer.from(good))),
        check,
      ),
      fuzzing(4),
    )
  })

  test('classes.json', async () => {
    const good = '{"classes":{"a":"one","b":"two"},"templates":["a {}.","my {}"]}'
    await fc.assert(
      fc.asyncProperty(
        damage.map((change) => change(Buffer.from(good))),
        async (bytes) => {
          writeFileSync(at('classes.json'), bytes)
          await readsOrRefuses(() => readClassFile(at('classes.json')))
        },
      ),
      fuzzing(4),
    )
  })
})

test('the log and the predictions of a run', async () => {
  mkdirSync(at('run'))
  const log = '{"type":"step","step":1,"loss":1,"lr":1,"time":1}\n{"type":"end","step":1,"time":2}\n'
  const predictions =
    '{"set":"s","task":"classification","classes":["a","b"],"alphas":[0,1],"folder":"/d/"}\n["x.png",1,[0,1]]\n["y.png",0,[1,1]]\n'
  await fc.assert(
    fc.asyncProperty(damage, async (change) => {
      writeFileSync(at('run', LOG_FILE), change(Buffer.from(log)))
      writeFileSync(at('run', PREDICTION_FILE), change(Buffer.from(predictions)))
      await readsOrRefuses(() => readRunLog(at('run')))
      await readsOrRefuses(() => readPredictions(at('run')))
    }),
    fuzzing(4),
  )
})
