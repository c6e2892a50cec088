import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { evalSettings, readSettings, trainSettings } from '../../lib/cli/settings.js'
import { clipTokenizerJson } from '../../lib/formats/clip-bpe.js'
import { loadPreprocessor, openClipFolder } from '../../lib/formats/clip-files.js'
import { parseJsonObject } from '../../lib/formats/json-fields.js'
import { parseOpenClipConfig } from '../../lib/formats/open-clip-config.js'
import { ImagePreprocessor } from '../../lib/formats/preprocessor.js'
import { ClipTokenizer } from '../../lib/formats/tokenizer.js'
import { readRecipe } from '../../lib/merge/run-recipe.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import fc from '../fast-check.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'
import { damage, fuzzing, nested, readsOrRefuses, wrongFile, wrongJson } from './mutations.js'

// Configuration files of any contents: a right result or an error with a code.
const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const textOf = (...parts: string[]) => readFileSync(at(...parts), 'utf8')
beforeAll(() => tinyClip(at('clip')))

test("a model's config.json: the model, or what is wrong with it", async () => {
  const config = textOf('clip', 'config.json')
  await fc.assert(
    fc.asyncProperty(wrongFile(config), async (bytes) => {
      writeFileSync(at('clip', 'config.json'), bytes)
      await readsOrRefuses(async () => {
        const files = await openClipFolder(at('clip'))
        await loadPreprocessor(files)
      })
    }),
    fuzzing(8),
  )
  writeFileSync(at('clip', 'config.json'), config)
})

test.each([1e5, 1e9, 2 ** 53 - 1])('a config.json that asks for %d layers is refused at once', async (layers) => {
  const raw = JSON.parse(textOf('clip', 'config.json'))
  mkdirSync(at(`deep-${layers}`))
  copyFileSync(at('clip', 'model.safetensors'), at(`deep-${layers}`, 'model.safetensors'))
  raw.text_config.num_hidden_layers = layers
  writeFileSync(at(`deep-${layers}`, 'config.json'), JSON.stringify(raw))
  expect(await readsOrRefuses(() => openClipFolder(at(`deep-${layers}`)))).toBe('E_CONFIG')
})

test('JSON in more levels than any file has, or in more bytes, is refused before it is parsed', async () => {
  for (const text of [`{"a":${nested(100)}}`, `{"a":${nested(1e6)}}`, '{"a":'.repeat(1e6)])
    expect(() => parseJsonObject(text, 'file')).toThrow(expect.objectContaining({ code: 'E_CONFIG' }))
  expect(parseJsonObject(`{"a":"${'['.repeat(1000)}\\"${'{'.repeat(1000)}"}`, 'file')).toBeDefined() // brackets in strings are none
  mkdirSync(at('big'))
  writeFileSync(at('big', 'preprocessor_config.json'), Buffer.concat([Buffer.from('{'), Buffer.alloc(150 << 20, ' '), Buffer.from('}')]))
  expect(await readsOrRefuses(() => ImagePreprocessor.load(at('big'), 40))).toBe('E_CONFIG')
})

test('preprocessor_config.json: pixels of the size it says, or an error', async () => {
  const json = {
    image_processor_type: 'CLIPImageProcessor',
    do_resize: true,
    size: { shortest_edge: 40 },
    resample: 3,
    do_center_crop: true,
    crop_size: { height: 40, width: 40 },
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
    do_pad: false,
  }
  const image = { width: 9, height: 7, data: new Uint8Array(9 * 7 * 3).fill(100) }
  await fc.assert(
    fc.asyncProperty(wrongJson(json), async (wrong) => {
      await readsOrRefuses(async () => {
        const preprocessor = ImagePreprocessor.fromJson(parseJsonObject(JSON.stringify(wrong), 'file'))
        const plan = preprocessor.plan(image.width, image.height)
        const pixels = await native.preprocessImage(image.data, image.width, image.height, plan)
        const [width, height] = preprocessor.outputSize ?? plan.resize
        expect(pixels.length).toBe(3 * width * height)
      })
    }),
    fuzzing(8),
  )
})

test('open_clip_config.json', async () => {
  const json = {
    model_cfg: { embed_dim: 64, quick_gelu: true, vision_cfg: { layers: 2, width: 64, head_width: 32 }, text_cfg: { heads: 2, width: 64 } },
    preprocess_cfg: { mean: [0, 0, 0], std: [1, 1, 1], interpolation: 'bicubic', resize_mode: 'shortest' },
  }
  await fc.assert(
    fc.asyncProperty(wrongJson(json), async (wrong) => {
      await readsOrRefuses(() => {
        const config = parseOpenClipConfig(parseJsonObject(JSON.stringify(wrong), 'file'))
        if (config.preprocess) ImagePreprocessor.fromOpenClip(config.preprocess, 40).plan(30, 50)
      })
    }),
    fuzzing(4),
  )
})

const split = (regex: unknown) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Removed', invert: true })
const replace = (regex: string, content: string) => ({ type: 'Replace', pattern: { Regex: regex }, content })

describe('tokenizers', () => {
  const encode = async (folder: string) => {
    const tokenizer = await ClipTokenizer.load(folder)
    const ids = tokenizer.encode(['A photo of a “cat”, 12×!', '', '  \n'], { maxLength: 20 })
    for (const list of ids) expect(list.every((id) => Number.isSafeInteger(id) && id >= 0)).toBe(true)
    tokenizer.decode(ids[0])
  }
  const files = {
    'vocab.json': '',
    'merges.txt': '',
    'tokenizer_config.json': '{"bos_token":{"content":"<|startoftext|>"},"eos_token":"<|endoftext|>"}',
  }

  test.each(Object.keys(files))('%s', async (name) => {
    mkdirSync(at('words'), { recursive: true })
    const good = {
      ...files,
      'vocab.json': textOf('clip', 'vocab.json'),
      'merges.txt': '#version: 0.2\na t\na t</w>\nc at</w>\n',
    } as Record<string, string>
    for (const [file, text] of Object.entries(good)) writeFileSync(at('words', file), text)
    const wrong = name.endsWith('.json') ? wrongFile(good[name]) : damage.map((change) => change(Buffer.from(good[name])))
    await fc.assert(
      fc.asyncProperty(wrong, async (bytes) => {
        writeFileSync(at('words', name), bytes)
        await readsOrRefuses(() => encode(at('words')))
      }),
      fuzzing(1),
    )
  })

  test.each([
    ['a pattern of 70,000 characters', { pre_tokenizer: split('x'.repeat(70_000)) }],
    ['a pattern that never ends', { pre_tokenizer: split('(\\p{L}+)+$') }],
    ['another that never ends', { normalizer: { type: 'Sequence', normalizers: [replace('(a|a)*b', '')] } }],
    ['a pattern of another type', { pre_tokenizer: split(7) }],
    ['replacements that double a text forty times', { normalizer: { type: 'Sequence', normalizers: Array(40).fill(replace('a', 'aa')) } }],
  ])('%s is refused before it is used', async (_, parts) => {
    const json = { ...clipTokenizerJson(JSON.parse(textOf('clip', 'vocab.json')), '#version\na t\n'), ...parts }
    expect(await readsOrRefuses(() => ClipTokenizer.fromJson(json))).toBe('E_TOKENIZER')
  })

  test.each([-1, 1.5, '7', 2 ** 60])('an id that is %p is refused when it comes up', async (id) => {
    const vocab = { ...JSON.parse(textOf('clip', 'vocab.json')), 'a</w>': id }
    const tokenizer = await ClipTokenizer.fromJson(clipTokenizerJson(vocab, '#version\n'))
    expect(await readsOrRefuses(() => tokenizer.encode(['a']))).toBe('E_TOKENIZER')
  })

  test('an end token of id -1 is refused', async () => {
    const json = clipTokenizerJson(JSON.parse(textOf('clip', 'vocab.json')), '#version\n') as Record<string, unknown>
    const tokens = (json.added_tokens as object[]).map((token) => ({ ...token, id: -1 }))
    expect(await readsOrRefuses(() => ClipTokenizer.fromJson({ ...json, added_tokens: tokens }))).toBe('E_TOKENIZER')
  })

  test('tokenizer.json', async () => {
    const small = Object.fromEntries(
      Object.entries(JSON.parse(textOf('clip', 'vocab.json')) as Record<string, number>).filter(([, id]) => id < 60 || id > 590),
    )
    const whole = clipTokenizerJson(small, '#version\na t\n')
    mkdirSync(at('whole'))
    await fc.assert(
      fc.asyncProperty(wrongJson(whole), async (wrong) => {
        writeFileSync(at('whole', 'tokenizer.json'), JSON.stringify(wrong))
        await readsOrRefuses(() => encode(at('whole')))
      }),
      fuzzing(4),
    )
  })
})

test('settings in YAML: settings, or a mistake of use', async () => {
  const yaml = 'model: clip\ndata: &d photos\nout: runs\nepochs: 3\nlr: 1e-3\ntest:\n  photos: *d\nalphas: [0, 0.5]\nmemory-budget: 8GB\n'
  const bombs = [
    `a: &a [x, x, x, x, x, x, x, x, x]\n${Array.from('bcdefghij', (name, i) => `${name}: &${name} [${Array(9).fill(`*${String.fromCharCode(97 + i)}`)}]`).join('\n')}\n`,
    `model: ${nested(100_000)}`,
    `model: ${'{a: '.repeat(50_000)}`,
    '&a [*a]',
    'model: !!js/function "1"\n',
    `${'? '.repeat(20_000)}`,
    `${'- '.repeat(50_000)}`,
    Array.from({ length: 3000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
    `model: ${'["'.repeat(3000)}`,
  ]
  const check = async (bytes: Buffer) => {
    writeFileSync(at('run.yaml'), bytes)
    for (const schema of [trainSettings, evalSettings])
      expect(['read', 'E_USAGE']).toContain(await readsOrRefuses(() => readSettings(schema, { config: at('run.yaml') })))
    expect(['read', 'E_USAGE']).toContain(await readsOrRefuses(() => readRecipe(at('run.yaml'))))
  }
  for (const bomb of bombs) await check(Buffer.from(bomb))
  await fc.assert(
    fc.asyncProperty(
      damage.map((change) => change(Buffer.from(yaml))),
      check,
    ),
    fuzzing(8),
  )
})

test('a model whose files agree by accident still computes or refuses', async () => {
  const raw = JSON.parse(textOf('clip', 'config.json'))
  const odd = fc.record({
    heads: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
    eos: fc.constantFrom(0, 1, 2, 599, 100000),
    eps: fc.constantFrom(1e-5, 1e308, 5e-324),
    act: fc.constantFrom('gelu', 'quick_gelu'),
  })
  mkdirSync(at('odd'))
  for (const file of ['model.safetensors', 'vocab.json', 'merges.txt']) copyFileSync(at('clip', file), at('odd', file))
  await fc.assert(
    fc.asyncProperty(odd, async ({ heads, eos, eps, act }) => {
      const text = { ...raw.text_config, num_attention_heads: heads, eos_token_id: eos, hidden_act: act }
      const vision = { ...raw.vision_config, num_attention_heads: heads, layer_norm_eps: eps }
      writeFileSync(at('odd', 'config.json'), JSON.stringify({ ...raw, text_config: text, vision_config: vision }))
      await readsOrRefuses(async () => {
        const clip = await Clip.load(at('odd'), { dtype: 'f32' })
        try {
          const { scope, Tensor } = await import('../../lib/tensor.js')
          const size = clip.config.vision.imageSize
          const [image, words] = scope(() => [
            clip.encodeImage(Tensor.zeros([1, 3, size, size])),
            clip.encodeText(clip.tokenize(['a cat', ''])),
          ])
          for (const features of [image, words]) {
            await features.floats()
            features.dispose()
          }
        } finally {
          clip.dispose()
        }
      })
    }),
    fuzzing(0.5),
  )
})
