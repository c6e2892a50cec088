import { join } from 'node:path'
import { promptHead } from '../../lib/continual/cosine-scores.js'
import { TextBank, type TextBankOptions } from '../../lib/continual/text-bank.js'
import { Diki } from '../../lib/methods/diki.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip } from '../tiny-clip.js'

const root = temporaryFolder()
const classes = ['red', 'green', 'a blue thing'].map((name) => ({
  name,
  prompts: [`a photo of ${name}.`, name].slice(0, name.length % 2 ? 1 : 2),
}))
let clip: Clip
let banks: Diki[]

beforeAll(async () => {
  clip = await Clip.load(tinyClip(join(root, 'clip')), { dtype: 'f32' })
  banks = [0, 1].map((t) => new Diki(clip, { depth: 2, length: 4 }, t))
  for (const [t, bank] of banks.entries())
    for (const [i, { values }] of [...bank.banks.values()].entries())
      values.write(native.random(t, i, 1, values.count, 0).map((u) => 2 * u - 1))
})
afterAll(() => clip.dispose())

const made: string[] = []
const bankOf = (options: TextBankOptions) =>
  new TextBank(
    clip,
    (task, weight) => {
      made.push(`${task} ${weight}`)
      return banks[task].at(weight)
    },
    options,
  )
const width = () => clip.config.projectionDim
const unit = (values: Float32Array) => values.map((v) => v / Math.hypot(...values))

/** Unit vectors that repeat from run to run. */
function queries(count: number): Float32Array {
  const out = new Float32Array(count * width())
  for (let i = 0; i < count; i++) out.set(unit(native.random(9, i, 2, width(), 0).map((u) => u - 0.5)), i * width())
  return out
}

async function scoresOf(bank: TextBank, rows: Float32Array, task: number[], weight: number[], scoresAtOnce?: number): Promise<number[]> {
  const out: number[] = []
  const choice = { task: Int32Array.from(task), textWeight: Float32Array.from(weight) }
  const visit = (scores: Float32Array, first: number) => {
    for (const [i, score] of scores.entries()) out[first * classes.length + i] = score
  }
  await bank.scores(rows, classes, choice, visit, { scoresAtOnce })
  return out
}
const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, v, i) => sum + v * b[i], 0)

/** Cosines without a grid. */
async function exact(rows: Float32Array, task: number, weight: number): Promise<number[]> {
  const view = await banks[task].at(weight)
  const head = await promptHead(clip, classes, view)
  await view.dispose()
  const row = (values: Float32Array, i: number) => values.subarray(i * width(), (i + 1) * width())
  return Array.from({ length: (rows.length / width()) * classes.length }, (_, at) =>
    dot(row(rows, Math.floor(at / classes.length)), row(head, at % classes.length)),
  )
}

test('weights of the grid are exact; 0 is the frozen head, of any task, and 1 the bank', async () => {
  const rows = queries(4)
  const bank = bankOf({ cells: 4 })
  for (const task of [0, 1])
    for (const weight of [0, 0.25, 0.75, 1]) {
      const got = await scoresOf(bank, rows, [task, task, task, task], [weight, weight, weight, weight])
      const want = await exact(rows, task, weight)
      expect(Math.max(...got.map((s, i) => Math.abs(s - want[i])))).toBeLessThan(1e-6)
    }
  const frozen = await scoresOf(bank, rows, [0, 1, 0, 1], [0, 0, 0, 0])
  expect(await scoresOf(bank, rows, [1, 1, 1, 1], [0, 0, 0, 0])).toEqual(frozen)
})

test('between them no unit query is wrong by more than the stated bound, and a finer grid makes it smaller', async () => {
  const scale = Math.exp(await clip.logitScale.item())
  // Cosines of the unit vectors are the interpolated head itself, and the distance of its rows the error of the worst query.
  const identity = Float32Array.from({ length: width() ** 2 }, (_, at) => (at % (width() + 1) === 0 ? 1 : 0))
  const worst = async (bank: TextBank, weight: number) => {
    const got = await scoresOf(bank, identity, Array(width()).fill(1), Array(width()).fill(weight))
    const want = await exact(identity, 1, weight)
    return Math.max(...classes.map((_, c) => scale * Math.hypot(...got.map((s, at) => (at % classes.length === c ? s - want[at] : 0)))))
  }
  const bounds: number[] = []
  for (const cells of [4, 8]) {
    const bank = bankOf({ cells })
    const bound = await bank.logitErrorBound(classes, 1)
    let largest = 0
    for (let place = 0.38; place < cells; place += 0.62) largest = Math.max(largest, await worst(bank, place / cells))
    expect(largest).toBeLessThanOrEqual(bound + 2e-4) // what f32 rounds away of logits of 100
    expect(largest).toBeGreaterThan(bound / 3)
    bounds.push(bound)
  }
  expect(bounds[0]).toBeGreaterThan(2e-3)
  expect(bounds[1]).toBeLessThan(bounds[0] / 4)
})

test('a row depends on its own query, task and weight', async () => {
  const rows = queries(6)
  const [task, weight] = [
    [0, 1, 1, 0, 1, 0],
    [0.1, 0.62, 0.6, 0.99, 1, 0],
  ]
  const bank = bankOf({ cells: 8 })
  const whole = await scoresOf(bank, rows, task, weight)
  expect(await scoresOf(bank, rows, task, weight, 6)).toEqual(whole)
  for (let i = 0; i < 6; i++)
    expect(await scoresOf(bankOf({ cells: 8 }), rows.subarray(i * width(), (i + 1) * width()), [task[i]], [weight[i]])).toEqual(
      whole.slice(3 * i, 3 * i + 3),
    )
})

test('heads are made when asked for, once, and kept within the budget', async () => {
  const rows = queries(2)
  const head = classes.length * width() * 4
  const ask = async (bank: TextBank, weight: number) => {
    made.length = 0
    await scoresOf(bank, rows, [0, 1], [weight, weight])
    return [...made]
  }
  const large = bankOf({ cells: 4 })
  expect(await ask(large, 0.3)).toEqual(['0 0.25', '0 0', '0 0.5', '0 0.75', '1 0.25', '1 0.5', '1 0.75'])
  expect(await ask(large, 0.4)).toEqual([])
  expect(await ask(large, 0.5)).toEqual([])
  const small = bankOf({ cells: 4, budget: 2 * head })
  expect((await ask(small, 0.3)).length).toBe(8)
  expect((await ask(small, 0.3)).length).toBe(8)
  large.clear()
  expect((await ask(large, 0.5)).length).toBe(2)
  expect(() => bankOf({ cells: 2 })).toThrow(expect.objectContaining({ code: 'E_OPTION' }))
})
