/** A run folder made by hand: two sets, three classes, known numbers, and names that would like to be markup. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'

export const CLASSES = ['cat', 'dog', 'cow']

export interface Sketch {
  method?: string
  alpha?: number
  steps?: number
  classes?: readonly string[]
  /** Names of the test set and of the out-of-distribution one. */
  sets?: readonly [string, string]
  /** Per image: true class, class before, class after; ids are made of `id`. */
  images?: readonly (readonly [number, number, number])[]
  id?: (index: number) => string
  settings?: Readonly<Record<string, unknown>>
}

/** 8 of 12 after, 4 of 12 before: five gained, one lost. */
export const IMAGES: readonly (readonly [number, number, number])[] = [
  [0, 0, 0],
  [0, 1, 0],
  [0, 1, 0],
  [0, 1, 1],
  [1, 1, 1],
  [1, 0, 1],
  [1, 0, 1],
  [1, 0, 0],
  [2, 2, 1],
  [2, 2, 2],
  [2, 1, 2],
  [2, 1, 1],
]

function evaluationOf(classes: readonly string[], images: readonly (readonly [number, number, number])[], model: 1 | 2) {
  const right = (rows: typeof images) => rows.filter((row) => row[0] === row[model]).length
  const perClass = classes.map((name, label) => {
    const own = images.filter((row) => row[0] === label)
    return { name, count: own.length, top1: own.length === 0 ? null : right(own) / own.length, top5: 1 }
  })
  return {
    task: 'classification',
    count: images.length,
    top1: right(images) / images.length,
    top5: 1,
    meanPerClass: 0.5,
    perClass,
    skipped: 0,
  }
}

export function writeRun(folder: string, sketch: Sketch = {}): string {
  const { method = 'r-adapter', alpha = 0.5, steps = 6, classes = CLASSES, images = IMAGES, settings = {} } = sketch
  const { sets = ['photos', 'drawings'], id = (index: number) => `${index}.png` } = sketch
  mkdirSync(folder, { recursive: true })
  const [before, after] = [evaluationOf(classes, images, 1), evaluationOf(classes, images, 2)]
  const at = (value: number, evaluation: object) => ({ name: value === 0 ? 'zero-shot' : method, alpha: value, evaluation })
  const both = (evaluation: object) => Object.fromEntries(sets.map((set) => [set, evaluation]))
  const report = {
    model: 'models/clip',
    method,
    dtype: 'f32',
    level: 'avx2',
    threads: 2,
    environment: { cambium: '0.1.0', node: '20.9.0', platform: 'linux x64', processor: 'a processor', memory: 8e9 },
    images: { train: 30, validation: 0 },
    trainable: 1000,
    estimatedBytes: 3e8,
    steps,
    skipped: 0,
    done: true,
    alpha: { value: alpha, by: 'option' },
    results: [at(0, both(before)), at(alpha, both(after)), ...(alpha === 1 ? [] : [at(1, both(after))])],
    sets: Object.fromEntries(
      sets.map((set, i) => [set, { role: i === 0 ? 'test' : 'ood', images: images.length, classes: classes.length }]),
    ),
    curve: [0, 0.25, 0.5, 0.75, 1].map((value) => ({ alpha: value, scores: { [sets[0]]: 0.3 + value / 3, [sets[1]]: 0.4 - value / 9 } })),
    files: { merged: 'runs/merged' },
  }
  writeFileSync(join(folder, 'report.json'), JSON.stringify(report))
  const state = { version: 1, cambium: '0.1.0', level: 'avx2', base: 'sha256:0', settings: { batch: 5, lr: 1e-3, ...settings } }
  const cursor = { epoch: 1, position: 0 }
  writeFileSync(
    join(folder, 'run.json'),
    JSON.stringify({ ...state, step: steps, steps, cursor, skipped: 0, tensors: `state-${steps}.safetensors` }),
  )
  const events = [
    { type: 'start', steps, from: 0, trainable: 1000, time: 1.7e9 },
    ...Array.from({ length: steps }, (_, i) => ({ ...stepEvent(i + 1, steps), time: 1.7e9 + i })),
    { type: 'end', step: steps, reason: 'done', seconds: 75, peakBytes: 2e8, time: 1.7e9 + 75 },
  ]
  writeFileSync(join(folder, 'events.jsonl'), events.map((event) => `${JSON.stringify(event)}\n`).join(''))
  const head = (set: string) => ({
    set,
    task: 'classification',
    classes,
    folder: `${folder}/`,
    alphas: alpha === 1 ? [0, 1] : [0, alpha, 1],
  })
  const values = (a: number, b: number) => (alpha === 1 ? [a, b] : [a, b, b])
  const rows = images.map(([label, a, b], index) => [id(index), label, values(a, b)])
  const lines = sets.flatMap((set) => [head(set), ...rows])
  writeFileSync(join(folder, 'predictions.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  return folder
}

export const stepEvent = (step: number, steps: number) => ({
  type: 'step' as const,
  step,
  steps,
  epoch: 0,
  loss: 3 / step,
  lr: 1e-3 * (1 - step / steps),
  gradientNorm: 1,
  imagesPerSecond: 40,
  skipped: 0,
})

/** The pictures that the run speaks of. */
export async function drawImages(folder: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++)
    await sharp({ create: { width: 60, height: 40, channels: 3, background: { r: 20 * i, g: 200, b: 90 } } })
      .png()
      .toFile(join(folder, `${i}.png`))
}
