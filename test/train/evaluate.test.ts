import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Dataset } from '../../lib/data/dataset.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { type EvaluationProgress, evaluate, scoreOf } from '../../lib/train/evaluate.js'
import { classHead, DecodedImages, encodeImages, encodeTexts, FeatureCache, similarities } from '../../lib/train/features.js'
import { retrieve } from '../../lib/train/retrieval.js'
import { chooseAlpha, chooseAlphaOn, evaluateAlphas } from '../../lib/train/sweep.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
const templates = ['a {}.', 'my big {}', '{}']
let clip: Clip
let data: Dataset
let captioned: Dataset

beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(folder, 'clip')), { dtype: 'f32' })
  data = await openDataset(await tinyImages(join(folder, 'images'), ['red', 'green', 'blue'], 4), { templates })
  const captions = (i: number) => Array.from({ length: 1 + (i % 3) }, (_, k) => `picture ${i} said ${k}`)
  captioned = new Dataset(data.samples.map(({ id, image }, i) => ({ id, image, captions: captions(i) })))
})
afterAll(() => clip.dispose())

const width = () => clip.config.projectionDim
const rows = (values: Float32Array) =>
  Array.from({ length: values.length / width() }, (_, i) => values.subarray(i * width(), (i + 1) * width()))
const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i], 0)
const shuffled = (set: Dataset) => set.subset([7, 2, 11, 0, 5, 9, 3, 8, 1, 10, 6, 4])

describe('features', () => {
  test('have length 1 and do not depend on the batch, the order or the company of an image', async () => {
    const whole = rows((await encodeImages(clip, data)).values)
    for (const row of whole) expect(Math.hypot(...row)).toBeCloseTo(1, 6)
    for (const batch of [1, 5, 12]) {
      const mixed = await encodeImages(clip, shuffled(data), undefined, { batch })
      const back = rows(mixed.values)
      for (const [i, sample] of [7, 2, 11, 0, 5, 9, 3, 8, 1, 10, 6, 4].entries()) {
        expect(Math.max(...back[i].map((value, k) => Math.abs(value - whole[sample][k])))).toBeLessThan(1e-6)
      }
    }
  })

  test('of a class are the normalised mean of its normalised prompts', async () => {
    const head = rows(await classHead(clip, data.classNames, templates, undefined, { batch: 2 }))
    for (const [c, name] of data.classNames.entries()) {
      const prompts = rows(
        await encodeTexts(
          clip,
          templates.map((template) => template.replace('{}', name)),
        ),
      )
      const sum = Float64Array.from({ length: width() }, (_, k) => prompts.reduce((total, prompt) => total + prompt[k], 0))
      for (let k = 0; k < width(); k++) expect(head[c][k]).toBeCloseTo(sum[k] / Math.hypot(...sum), 6)
    }
  })

  test('are taken from a cache, for other heads over the same images', async () => {
    const cache = new FeatureCache()
    const encode = jest.spyOn(clip, 'encodeImage')
    await evaluate(clip, [{ name: 'a', data }], { cache })
    const calls = encode.mock.calls.length
    const again = await evaluate(clip, [{ name: 'b', data }], { cache, templates: ['the {}'] })
    expect(encode.mock.calls.length).toBe(calls)
    expect(again).toEqual(await evaluate(clip, [{ name: 'b', data }], { templates: ['the {}'] }))
    encode.mockRestore()
  })

  test('need no second decoding of images kept', async () => {
    const passing = await openDataset(await tinyImages(join(folder, 'passing'), ['red', 'blue'], 2))
    const decoded = new DecodedImages()
    const first = await encodeImages(clip, passing, undefined, { decoded })
    rmSync(join(folder, 'passing'), { recursive: true })
    expect(await encodeImages(clip, passing, undefined, { decoded })).toEqual(first)
    await expect(encodeImages(clip, passing)).rejects.toMatchObject({ code: 'E_IMAGE' })
  })

  test('are compared in blocks of whole rows', async () => {
    const [a, b] = [new Float32Array(3 * 4).map((_, i) => i), new Float32Array(2 * 4).map((_, i) => 10 - i)]
    const seen: number[] = []
    await similarities(a, b, 4, (scores, first, count) => seen.push(first, count, ...scores))
    expect(seen).toEqual([0, 3, 46, 22, 182, 94, 318, 166])
  })
})

test('what is predicted for each image does not depend on the scores computed at once', async () => {
  const sets = [
    { name: 'classes', data },
    { name: 'captions', data: captioned, task: 'retrieval' as const },
  ]
  const predicted = async (scoresAtOnce?: number) => {
    const told: Record<string, readonly number[]> = {}
    const evaluation = await evaluate(clip, sets, { scoresAtOnce, onPredictions: (set, { values }) => (told[set.name] = [...values]) })
    return { evaluation, told }
  }
  const whole = await predicted()
  expect(new Set(whole.told.classes).size).toBeGreaterThan(1)
  expect(new Set(whole.told.captions).size).toBeGreaterThan(1)
  expect(await predicted(50)).toEqual(whole) // some rows of each comparison
  expect(await predicted(9)).toEqual(whole) // three rows of the classes, and single rows
})

describe('classification', () => {
  test('is the class with the greatest cosine, counted by class', async () => {
    const { set } = await evaluate(clip, [{ name: 'set', data }])
    const images = rows((await encodeImages(clip, data)).values)
    const head = rows(await classHead(clip, data.classNames, templates))
    const hits = images.map((image, i) => {
      const scores = head.map((column) => dot(image, column))
      return scores.indexOf(Math.max(...scores)) === data.samples[i].label ? 1 : 0
    })
    const byClass = [0, 1, 2].map((c) => hits.filter((hit, i) => hit && data.samples[i].label === c).length / 4)
    if (set.task !== 'classification') throw new Error('expected a classification')
    expect(set).toMatchObject({ count: 12, top5: 1, skipped: 0 })
    expect(set.perClass.map(({ top1 }) => top1)).toEqual(byClass)
    expect(set.top1).toBeCloseTo(byClass.reduce((a, b) => a + b) / 3, 12)
    expect(scoreOf(set)).toBe(set.top1)
    expect(JSON.parse(JSON.stringify(set))).toEqual(set)
  })

  test('is the same for any batch and order', async () => {
    const plain = await evaluate(clip, [{ name: 'set', data }])
    for (const batch of [1, 7]) expect(await evaluate(clip, [{ name: 'set', data: shuffled(data) }], { batch })).toEqual(plain)
  })

  test('leaves broken images out when told to, and counts them', async () => {
    const broken = join(folder, 'broken.png')
    writeFileSync(broken, 'no image')
    const mixed = new Dataset([{ id: 'broken', image: broken, label: 0 }, ...data.samples], data)
    await expect(evaluate(clip, [{ name: 'set', data: mixed }])).rejects.toMatchObject({
      code: 'E_IMAGE',
      message: expect.stringContaining('broken.png'),
    })
    const { set } = await evaluate(clip, [{ name: 'set', data: mixed }], { skipBroken: true, batch: 5 })
    expect(set).toEqual({ ...(await evaluate(clip, [{ name: 'set', data }])).set, skipped: 1 })
  })
})

describe('retrieval', () => {
  test('ranks both ways over all images and captions', async () => {
    const result = await retrieve(clip, captioned, { batch: 5 })
    const images = rows((await encodeImages(clip, captioned)).values)
    const owners = captioned.samples.flatMap(({ captions = [] }, i) => captions.map(() => i))
    const texts = rows(
      await encodeTexts(
        clip,
        captioned.samples.flatMap(({ captions = [] }) => captions),
      ),
    )
    const rank = (scores: number[], target: number) =>
      1 + scores.filter((score, i) => score > scores[target] || (score === scores[target] && i < target)).length
    const toText = images.map((image, i) => {
      const scores = texts.map((text) => dot(image, text))
      return Math.min(...owners.flatMap((owner, caption) => (owner === i ? [rank(scores, caption)] : [])))
    })
    const toImage = texts.map((text, caption) =>
      rank(
        images.map((image) => dot(image, text)),
        owners[caption],
      ),
    )
    const average = (ranks: number[]) => ranks.reduce((a, b) => a + b) / ranks.length
    expect(result).toMatchObject({ images: 12, captions: 24, skipped: 0 })
    expect(result.imageToText.mean).toBeCloseTo(average(toText), 9)
    expect(result.textToImage.mean).toBeCloseTo(average(toImage), 9)
    expect(result.textToImage.r5).toBeCloseTo(toImage.filter((r) => r <= 5).length / 24, 9)
  })

  test('needs a caption for each image', async () => {
    await expect(retrieve(clip, data)).rejects.toMatchObject({ code: 'E_DATA' })
  })
})

describe('sets', () => {
  test('of both kinds are told apart, and their progress is told', async () => {
    const told: EvaluationProgress[] = []
    const result = await evaluate(
      clip,
      [
        { name: 'classes', data },
        { name: 'captions', data: captioned },
      ],
      { batch: 8, onProgress: (p) => told.push(p) },
    )
    expect([result.classes.task, result.captions.task]).toEqual(['classification', 'retrieval'])
    expect(told.filter(({ set, what }) => set === 'classes' && what === 'images').map(({ done, total }) => [done, total])).toEqual([
      [8, 12],
      [12, 12],
    ])
    expect(told.at(-1)).toEqual({ set: 'captions', what: 'texts', done: 24, total: 24 })
  })

  test('have names of their own', async () => {
    await expect(
      evaluate(clip, [
        { name: 'a', data },
        { name: 'a', data },
      ]),
    ).rejects.toMatchObject({ code: 'E_OPTION' })
  })

  test('stop when asked to', async () => {
    const abort = new AbortController()
    const reason = new Error('enough')
    const running = evaluate(clip, [{ name: 'a', data }], { batch: 1, signal: abort.signal, onProgress: () => abort.abort(reason) })
    await expect(running).rejects.toBe(reason)
    expect((await evaluate(clip, [{ name: 'a', data }])).a).toMatchObject({ count: 12 })
  })
})

describe('alpha', () => {
  test('is the best on validation, of equals the one nearest to the pretrained model', async () => {
    const scores = new Map([
      [0, 0.2],
      [0.3, 0.7],
      [0.6, 0.7],
      [1, 0.5],
    ])
    const choice = await chooseAlpha([1, 0.6, 0.3, 0], (alpha) => scores.get(alpha) as number)
    expect(choice).toEqual({
      alpha: 0.3,
      score: 0.7,
      tried: [
        { alpha: 1, score: 0.5 },
        { alpha: 0.6, score: 0.7 },
        { alpha: 0.3, score: 0.7 },
        { alpha: 0, score: 0.2 },
      ],
    })
    await expect(chooseAlpha([], () => 1)).rejects.toMatchObject({ code: 'E_OPTION' })
    await expect(chooseAlpha([1], () => Number.NaN)).rejects.toMatchObject({ code: 'E_NOT_FINITE' })
  })

  test('0 is the model itself, and each alpha is evaluated for itself', async () => {
    const adapter = new RAdapter(clip, { seed: 1 })
    for (const [i, parameter] of adapter.parameters.entries())
      parameter.write(Float32Array.from({ length: parameter.count }, (_, k) => 0.4 * Math.sin(i + 7 * k)))
    const sets = [{ name: 'set', data: captioned }]
    const points = await evaluateAlphas(clip, adapter, [0, 0.5, 1], sets)
    const plain = await evaluate(clip, sets)
    expect(points[0]).toEqual({ alpha: 0, evaluation: plain })
    expect(points[2].evaluation).not.toEqual(plain)
    const half = await adapter.at(0.5)
    expect(points[1].evaluation).toEqual(await evaluate(clip, sets, { injection: half }))
    await half.dispose()
    const choice = await chooseAlphaOn(clip, adapter, sets[0], { alphas: [0, 0.5, 1] })
    expect(choice.tried.map(({ score }) => score)).toEqual(points.map(({ evaluation }) => scoreOf(evaluation.set)))
    adapter.dispose()
  })
})
