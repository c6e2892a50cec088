/** Ids against Hugging Face's Rust tokenizers (test/fixtures/tokenizer), lengths, and where CLIP pools. */
import { cpSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { clipTokenizerJson } from '../../lib/formats/clip-bpe.js'
import { ClipTokenizer, eotPosition } from '../../lib/formats/tokenizer.js'
import { temporaryFolder } from '../temporary-folder.js'

const fixture = join(__dirname, '../fixtures/tokenizer')
const root = temporaryFolder()
const golden: { text: string; ids: number[] }[] = JSON.parse(readFileSync(join(fixture, 'golden.json'), 'utf8'))
let tokenizer: ClipTokenizer
beforeAll(async () => {
  tokenizer = await ClipTokenizer.load(fixture)
})

test.each(golden)('$text', ({ text, ids }) => expect(tokenizer.encode([text])).toEqual([ids]))

test('tokenizer.json gives the same as vocab.json and merges.txt', async () => {
  const folder = join(root, 'json')
  mkdirSync(folder)
  const vocab = JSON.parse(readFileSync(join(fixture, 'vocab.json'), 'utf8'))
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(clipTokenizerJson(vocab, readFileSync(join(fixture, 'merges.txt'), 'utf8'))))
  writeFileSync(
    join(folder, 'tokenizer_config.json'),
    JSON.stringify({ bos_token: { content: '<|startoftext|>' }, eos_token: '<|endoftext|>' }),
  )
  const other = await ClipTokenizer.load(folder)
  expect(other.encode(golden.map(({ text }) => text))).toEqual(golden.map(({ ids }) => ids))
})

test('the special ids and the size of the vocabulary', () => {
  expect([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.vocabSize]).toEqual([49406, 49407, 49408])
})

test('ids back to text', () => expect(tokenizer.decode(tokenizer.encode(['a photo of a cat'])[0]).trim()).toBe('a photo of a cat'))

describe('long texts', () => {
  test('are cut so that the last id is the end token', () => {
    expect(tokenizer.encode(['a photo of a cat', 'a'], { maxLength: 5 })).toEqual([
      [49406, 320, 1125, 539, 49407],
      [49406, 320, 49407],
    ])
    expect(tokenizer.encode(['a photo of a cat'], { maxLength: 7 })).toEqual([golden[0].ids])
    expect(tokenizer.encode(['a photo'], { maxLength: 2 })).toEqual([[49406, 49407]])
  })
  test('or refused', () => {
    expect(() => tokenizer.encode(['a photo of a cat'], { maxLength: 6, truncate: false })).toThrow(
      expect.objectContaining({ code: 'E_TEXT_LENGTH' }),
    )
    expect(tokenizer.encode(['a photo of a cat'], { maxLength: 7, truncate: false })).toHaveLength(1)
    expect(() => tokenizer.encode(['a'], { maxLength: 1 })).toThrow(expect.objectContaining({ code: 'E_OPTION' }))
  })
})

describe('where CLIP pools', () => {
  test('at the first end token, padded with it or with anything', () => {
    expect(eotPosition([49406, 320, 49407], 49407)).toBe(2)
    expect(eotPosition([49406, 320, 49407, 49407, 49407], 49407)).toBe(2)
    expect(eotPosition([49406, 320, 49407, 0, 0], 49407)).toBe(2)
    expect(eotPosition(Int32Array.of(3998, 3999, 3998), 3999)).toBe(1)
  })
  test('configurations that say 2 mean the largest id, though id 2 occurs', () => {
    expect(eotPosition([49406, 2, 320, 49407, 0], 2)).toBe(3)
    expect(eotPosition([49406, 320, 49407, 49407], 2)).toBe(2)
  })
  test('a text without end token is an error', () => {
    expect(() => eotPosition([49406, 320], 49407)).toThrow(expect.objectContaining({ code: 'E_TOKENS' }))
  })
})

describe('files that are no tokenizer', () => {
  const broken = (name: string, change: (folder: string) => void) => {
    const folder = join(root, name)
    cpSync(fixture, folder, { recursive: true })
    change(folder)
    return ClipTokenizer.load(folder)
  }
  test('none', async () => {
    await expect(broken('none', (folder) => unlinkSync(join(folder, 'merges.txt')))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
  })
  test('no JSON', async () => {
    await expect(broken('json-broken', (folder) => writeFileSync(join(folder, 'vocab.json'), '{'))).rejects.toMatchObject({
      code: 'E_CONFIG',
    })
  })
  test('a merge of three', async () => {
    await expect(broken('merge', (folder) => writeFileSync(join(folder, 'merges.txt'), 'a b c\n'))).rejects.toMatchObject({
      code: 'E_TOKENIZER',
    })
  })
  test('no end token', async () => {
    await expect(broken('special', (folder) => writeFileSync(join(folder, 'vocab.json'), '{"a": 0}'))).rejects.toMatchObject({
      code: 'E_TOKENIZER',
    })
  })
  test('another model’s tokenizer.json', async () => {
    await expect(
      broken('other', (folder) => writeFileSync(join(folder, 'tokenizer.json'), '{"model": {"type": "Nonsense"}}')),
    ).rejects.toMatchObject({ code: 'E_TOKENIZER' })
  })
})
