import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openClipFolder } from '../../lib/formats/clip-files.js'
import type { FineTuneOptions } from '../../lib/train/fine-tune.js'
import { readRunLog } from '../../lib/train/run-log.js'
import { uniforms } from '../ops/normals.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import type { KilledWork } from './kill-child.js'
import { killedProcess } from './killed-process.js'
import { contents, expectReadable, expectSame, leftoversBelow } from './readable.js'

// Processes that train and merge are killed at random moments of their lives, again and again, and started anew. More than by
// default with CAMBIUM_KILLS; CAMBIUM_KILL_SEED for other moments.
const KILLS = Number(process.env.CAMBIUM_KILLS ?? 10)
const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let settings: FineTuneOptions

const draw = uniforms(Number(process.env.CAMBIUM_KILL_SEED ?? 20261122))

beforeAll(async () => {
  tinyClip(at('clip'))
  await tinyImages(at('train'), ['red', 'green', 'blue'], 6)
  await tinyImages(at('test'), ['red', 'green', 'blue'], 2)
  settings = {
    model: at('clip'),
    data: at('train'),
    out: at('whole'),
    method: 'r-adapter',
    dtype: 'f32',
    rank: 2,
    epochs: 4,
    batch: 6,
    checkpointEvery: 1,
    validationShare: 0.3,
    alphas: [0, 1],
    tests: [{ name: 'test', path: at('test') }],
    resume: true,
  }
})

/** What two runs of the same settings share to the bit: neither times nor charts of times. */
const exact = (name: string) => !/^(report\.json|report\.html|events\..*)$/.test(name)

/** Numbers of the log that are no times, step by step. */
const losses = async (out: string) =>
  (await readRunLog(out)).events.flatMap((event) => (event.type === 'step' ? [[event.step, event.loss, event.lr, event.gradientNorm]] : []))

/** What a report says beside how long it took. */
function results(out: string): unknown {
  const { alpha, results, curve, steps, sets } = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'))
  return { alpha, results, curve, steps, sets }
}

test('training killed at any moment goes on to the same bits, and every file can be read at every moment', async () => {
  const whole = await killedProcess({ train: settings })
  expect(whole).toMatchObject({ done: true, code: 0, err: '' })
  const expected = contents(at('whole'), exact)
  expect([...expected.keys()]).toEqual(
    expect.arrayContaining(['run.json', 'adapter/adapter_model.safetensors', 'merged/model.safetensors']),
  )
  let life = whole.milliseconds
  for (let kills = 0; kills < KILLS; ) {
    const out = at('killed')
    rmSync(out, { recursive: true, force: true })
    for (let done = false, isFresh = true; !done; isFresh = false) {
      // As long as a whole life, so that each part of what is left is as likely as any other.
      const end = await killedProcess({ train: { ...settings, out } }, { delay: kills < KILLS ? draw() * life : undefined })
      expect(end.err).toBe('')
      done = end.done
      if (done && isFresh) life = end.milliseconds // the machine was slower before
      if (!done) kills++
      if (existsSync(out)) await expectReadable(out)
      if (existsSync(join(out, 'merged', 'config.json'))) await openClipFolder(join(out, 'merged'))
    }
    expect(leftoversBelow(out)).toEqual([])
    expectSame(contents(out, exact), expected)
    expect(await losses(out)).toEqual(await losses(at('whole')))
    expect(results(out)).toEqual(results(at('whole')))
  }
}, 1e9)

test('merging killed at any moment leaves the folder as it was or whole', async () => {
  const merge = (out: string, alpha: number): KilledWork => ({
    merge: { model: at('clip'), adapter: at('whole', 'adapter'), out, alpha },
  })
  const ends = [await killedProcess(merge(at('old'), 0.25)), await killedProcess(merge(at('new'), 1))]
  expect(ends).toMatchObject([{ done: true }, { done: true }])
  const [old, made] = [contents(at('old')), contents(at('new'))]
  let life = ends[1].milliseconds
  for (let kills = 0; kills < KILLS; ) {
    const out = at('merged')
    rmSync(out, { recursive: true, force: true })
    const fresh = draw() < 0.5
    if (!fresh) cpSync(at('old'), out, { recursive: true })
    for (let done = false; !done; ) {
      const end = await killedProcess(merge(out, 1), { delay: kills < KILLS ? draw() * life : undefined })
      expect(end.err).toBe('')
      done = end.done
      if (done) life = Math.min(life, end.milliseconds)
      if (!done) kills++
      if (!existsSync(join(out, 'config.json'))) {
        expect(fresh).toBe(true)
        continue
      }
      await openClipFolder(out) // finishes what was decided
      const found = contents(out)
      expectSame(found, found.get('model.safetensors')!.equals(made.get('model.safetensors')!) ? made : old)
    }
    expect(leftoversBelow(out)).toEqual([])
    expectSame(contents(out), made)
  }
}, 1e9)
