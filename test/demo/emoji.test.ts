// The demo's data: packages by hand, no network.
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ClipTokenizer } from '../../lib/formats/tokenizer.js'
import { Clip } from '../../lib/models/clip.js'

const demo = resolve(__dirname, '../../demo')

/** Runs the body of a function in a module of the demo (jest does not load .mjs) and gives its value, through JSON. */
function inDemo(module: string, names: string, body: string): unknown {
  const url = pathToFileURL(join(demo, module)).href
  const code = `import { ${names} } from ${JSON.stringify(url)}\nconst run = () => { ${body} }\nprocess.stdout.write(JSON.stringify(run() ?? null))`
  return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' }))
}

const PACKAGES = {
  noto: {
    icons: {
      apple: { body: '' },
      'apple-dark': { body: '' },
      pilot: { body: '' },
      cat: { body: '' },
      'one-oclock': { body: '' },
      dog: { body: '' },
    },
    aliases: {},
    chars: {
      '1f34e': 'apple',
      '1f34e-1f3ff': 'apple-dark',
      '1f468-200d-2708': 'pilot',
      '1f431': 'cat',
      '1f550': 'one-oclock',
      '1f415': 'dog',
    },
    categories: { 'Food & Drink': ['apple', 'apple-dark'], People: ['pilot'], 'Animals & Nature': ['cat', 'dog'], Travel: ['one-oclock'] },
  },
  openmoji: {
    icons: { fruit: { body: '' } },
    aliases: { kitty: { parent: 'fruit', hFlip: true } },
    chars: { '1f34e': 'fruit', '1f431': 'kitty' },
    categories: {},
  },
  fxemoji: { icons: { apple: { body: '' }, dogside: { body: '' } }, aliases: {}, chars: {}, categories: {} },
}

describe('concepts', () => {
  const concepts = inDemo('emoji/concepts.mjs', 'alignConcepts', `return alignConcepts(${JSON.stringify(PACKAGES)})`) as {
    name: string
    drawings: Record<string, string>
  }[]

  test('skin tones, sequences of people and clock faces are left out', () => {
    expect(concepts.map(({ name }) => name).sort()).toEqual(['apple', 'cat', 'dog'])
  })

  test('drawings meet by code point, by name and by the table of other names; a mirrored alias is no drawing', () => {
    const drawings = Object.fromEntries(concepts.map(({ name, drawings }) => [name, drawings]))
    expect(drawings.apple).toEqual({ noto: 'apple', openmoji: 'fruit', fxemoji: 'apple' })
    expect(drawings.cat).toEqual({ noto: 'cat' })
    expect(drawings.dog).toEqual({ noto: 'dog', fxemoji: 'dogside' })
  })
})

test('files of a tar archive are found by their sizes', () => {
  const entries = inDemo(
    'emoji/packages.mjs',
    'tarEntries',
    `const file = (name, text) => {
       const head = Buffer.alloc(512)
       head.write('package/' + name)
       head.write(text.length.toString(8).padStart(11, '0'), 124)
       return Buffer.concat([head, Buffer.from(text.padEnd(Math.ceil(text.length / 512) * 512, '\\0'))])
     }
     const tar = Buffer.concat([file('a.json', '[1]'), file('b.json', '"' + 'x'.repeat(600) + '"'), Buffer.alloc(1024)])
     return [...tarEntries(tar)].map(([name, bytes]) => [name, JSON.parse(bytes.toString())])`,
  )
  expect(entries).toEqual([
    ['a.json', [1]],
    ['b.json', 'x'.repeat(600)],
  ])
})

test('byte pairs are merged by count, ties by order of the text', () => {
  const { merges } = inDemo('tokenizer.mjs', 'trainBpe', "return trainBpe(['low low lower', 'newest newest'], 600)") as {
    merges: string[][]
  }
  expect(merges.slice(0, 3)).toEqual([
    ['l', 'o'],
    ['w', 'e'],
    ['e', 'we'],
  ])
})

test('the tokenizer of the model gives the ids that CLIPTokenizerFast gives', async () => {
  const tokenizer = await ClipTokenizer.load(join(demo, 'model'))
  expect(tokenizer.encode(['an emoji of hot beverage', "a drawing of woman's hat"], { maxLength: 24 })).toEqual([
    [1534, 519, 529, 512, 901, 1299, 1535],
    [1534, 320, 528, 512, 864, 6, 338, 1133, 1535],
  ])
})

test('a model with random weights is a whole checkpoint, the same for the same seed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cambium-demo-'))
  try {
    const architecture = JSON.stringify({ image: 16, patch: 8, width: 64, visionLayers: 1, textLayers: 1, context: 24, vocab: 1536 })
    const write = (name: string, seed: number) =>
      inDemo(
        'init-model.mjs',
        'initModel',
        `initModel(${JSON.stringify(join(folder, name))}, { seed: ${seed}, architecture: ${architecture} })`,
      )
    for (const [name, seed] of [
      ['a', 1],
      ['b', 1],
      ['c', 2],
    ] as const)
      write(name, seed)
    const bytes = (name: string) => readFileSync(join(folder, name, 'model.safetensors'))
    expect(bytes('a').equals(bytes('b'))).toBe(true)
    expect(bytes('a').equals(bytes('c'))).toBe(false)
    const clip = await Clip.load(join(folder, 'a'))
    const weight = await clip.weights.floats('text_model.embeddings.token_embedding.weight')
    const deviation = Math.sqrt(weight.reduce((sum, value) => sum + value * value, 0) / weight.length)
    expect(deviation).toBeCloseTo(0.02, 3)
    clip.dispose()
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('the committed model is a CLIP under 10 MB', async () => {
  expect(statSync(join(demo, 'model/model.safetensors')).size).toBeLessThan(10e6)
  const clip = await Clip.load(join(demo, 'model'))
  expect(clip.config.vision).toMatchObject({ imageSize: 48, patchSize: 8, hiddenSize: 192 })
  clip.dispose()
})
