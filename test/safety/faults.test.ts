import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { readRunState } from '../../lib/checkpoint/run-state.js'
import { batches } from '../../lib/data/batches.js'
import { openDataset } from '../../lib/data/open-dataset.js'
import { openCheckpoint } from '../../lib/formats/checkpoint.js'
import { ImagePreprocessor } from '../../lib/formats/preprocessor.js'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { mergeFolder } from '../../lib/merge/merge-folder.js'
import { RAdapter } from '../../lib/methods/r-adapter.js'
import { Clip } from '../../lib/models/clip.js'
import { native } from '../../lib/native.js'
import type { Objective } from '../../lib/objectives/objective.js'
import { sum } from '../../lib/ops.js'
import { type FineTuneEvent, type FineTuneOptions, fineTune } from '../../lib/train/fine-tune.js'
import { Trainer } from '../../lib/train/train.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { contents, expectReadable, expectSame, leftoversBelow } from './readable.js'

// What goes wrong in the world: a full disk, a folder that cannot be used, files that change or vanish, numbers that are none,
// somebody who has had enough. Each is an error with a code, and what was saved before stays good.
jest.setTimeout(600_000) // a busy machine is no failure
const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
let settings: FineTuneOptions

beforeAll(async () => {
  tinyClip(at('clip'))
  await tinyImages(at('train'), ['red', 'green', 'blue'], 6)
  settings = {
    model: at('clip'),
    data: at('train'),
    out: at('run'),
    method: 'r-adapter',
    dtype: 'f32',
    rank: 2,
    epochs: 3,
    batch: 6,
    checkpointEvery: 1,
    validationShare: 0,
  }
  await fineTune(settings)
})

/** The same model with one weight changed. */
function otherClip(path: string): void {
  tinyClip(path)
  const file = join(path, 'model.safetensors')
  const bytes = readFileSync(file)
  bytes[8 + Number(bytes.readBigUInt64LE(0))] ^= 1
  writeFileSync(file, bytes)
}

/** `work` in a process of its own whose files may have at most this many blocks of 512 bytes. */
function withFileLimit(blocks: number, work: object): Promise<{ code: number | null; err: string }> {
  const child = spawn('/bin/sh', ['-c', 'ulimit -f "$0"; trap "" XFSZ; exec "$@"', String(blocks), process.execPath, ...childArgs(work)])
  let err = ''
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, err })))
}
const childArgs = (work: object) => [
  '--require',
  join(__dirname, '../typescript.cjs'),
  join(__dirname, 'kill-child.ts'),
  JSON.stringify(work),
]

const unix = process.platform === 'win32' ? test.failing : test

describe('a full disk', () => {
  unix('while a model is merged: E_NO_SPACE, and the folder is as it was', async () => {
    const merge = { model: at('clip'), adapter: at('run', 'adapter'), out: at('full'), alpha: 0.25 }
    await mergeFolder(merge)
    const before = contents(at('full'))
    for (const blocks of [0, 1, 100, 4000]) {
      const end = await withFileLimit(blocks, { merge: { ...merge, alpha: 1 } })
      expect(end).toMatchObject({ code: 1, err: expect.stringMatching(/^E_NO_SPACE /) })
      expect(leftoversBelow(at('full'))).toEqual([])
      expectSame(contents(at('full')), before)
    }
  })

  unix('while a run writes checkpoints: E_NO_SPACE, and the last one stays', async () => {
    const out = at('full-run')
    const stopped = new AbortController()
    const onEvent = (event: FineTuneEvent) => event.type === 'step' && event.step === 2 && stopped.abort()
    await fineTune({ ...settings, out, signal: stopped.signal, onEvent })
    for (const blocks of [0, 8, 40]) {
      const end = await withFileLimit(blocks, { train: { ...settings, out, resume: true } })
      expect(end).toMatchObject({ code: 1, err: expect.stringMatching(/^E_NO_SPACE /) })
      await expectReadable(out)
      expect(await readRunState(out)).toMatchObject({ step: 2 })
    }
    await fineTune({ ...settings, out, resume: true })
    expectSame(contents(join(out, 'merged')), contents(at('run', 'merged')))
    expect(leftoversBelow(out)).toEqual([])
  })
})

describe('folders that cannot be used', () => {
  beforeAll(() => writeFileSync(at('file'), 'no folder'))

  test.each([
    ['below a file', () => at('file', 'out')],
    ['a file itself', () => at('file')],
    ['a device', () => '/dev/null/out'],
    ['a name too long', () => at('x'.repeat(300))],
    ['a name with a null', () => at('a\0b')],
  ])('writing: %s', async (_, out) => {
    const code = /^E_(IO|NOT_FOUND|DATA)$/
    await expect(mergeFolder({ model: at('clip'), adapter: at('run', 'adapter'), out: out() })).rejects.toMatchObject({
      code: expect.stringMatching(code),
    })
    await expect(fineTune({ ...settings, out: out() })).rejects.toMatchObject({ code: expect.stringMatching(code) })
  })

  test.each([
    ['below a file', () => at('file', 'in')],
    ['a file', () => at('file')],
    ['no file', () => at('nowhere')],
    ['a name with a null', () => at('a\0b')],
  ])('reading: %s', async (_, path) => {
    const ours = { code: expect.stringMatching(/^E_[A-Z_]+$/), name: 'CambiumError' }
    await expect(Clip.load(path())).rejects.toMatchObject(ours)
    await expect(openDataset(path())).rejects.toMatchObject(ours)
    await expect(mergeFolder({ model: at('clip'), adapter: path(), out: at('never') })).rejects.toMatchObject(ours)
    expect(existsSync(at('never'))).toBe(false)
  })

  const root = process.getuid?.() === 0
  unix('a folder that we may not read or write', async () => {
    chmodSync(folder, 0o755)
    mkdirSync(at('closed'), { mode: 0o000 })
    const code = `
      ${root ? 'process.setgid(65534); process.setuid(65534)' : ''}
      import('node:fs/promises').then(async () => {
        for (const [work, what] of [[() => load(${JSON.stringify(at('closed'))}), 'read'], [() => save(${JSON.stringify(at('closed', 'out'))}), 'write']])
          await work().then(() => console.log(what, 'none'), (error) => console.log(what, error.name, error.code))
      })`
    const prelude = `
      const { openCheckpoint } = require(${JSON.stringify(join(__dirname, '../../lib/formats/checkpoint.ts'))})
      const { writeFolder } = require(${JSON.stringify(join(__dirname, '../../lib/formats/atomic-folder.ts'))})
      const load = (path) => openCheckpoint(path), save = (path) => writeFolder(path, async () => {})`
    writeFileSync(at('closed.cjs'), `require(${JSON.stringify(join(__dirname, '../typescript.cjs'))})\n${prelude}\n${code}`)
    const out = execFileSync(process.execPath, [at('closed.cjs')], { encoding: 'utf8' })
    expect(out).toMatch(/^read CambiumError E_IO\nwrite CambiumError E_IO\n$/)
  })
})

describe('files that are not what they were', () => {
  test('weights cut short after their header was read: E_FILE_CHANGED, and no crash', async () => {
    tinyClip(at('shrinks'))
    const path = at('shrinks', 'model.safetensors')
    const { tensors } = await openCheckpoint(at('shrinks'))
    const last = [...tensors.values()].sort((a, b) => b.offset - a.offset)[0]
    truncateSync(path, last.offset)
    const request = { path, offset: last.offset, count: last.count, from: last.dtype, expectedSize: last.fileSize }
    await expect(native.readTensor({ ...request, to: 'F32' })).rejects.toMatchObject({ code: 'E_FILE_CHANGED' })
    await expect(Clip.load(at('shrinks'))).rejects.toMatchObject({ code: 'E_SAFETENSORS_INCOMPLETE' })
  })

  test('weights cut short while a model is saved: the target is as it was', async () => {
    tinyClip(at('cut'))
    const clip = await Clip.load(at('cut'))
    cpSync(at('run', 'merged'), at('kept'), { recursive: true })
    truncateSync(at('cut', 'model.safetensors'), 2_000_000)
    await expect(clip.save(at('kept'))).rejects.toMatchObject({ code: 'E_FILE_CHANGED' })
    clip.dispose()
    expectSame(contents(at('kept')), contents(at('run', 'merged')))
    expect(leftoversBelow(at('kept'))).toEqual([])
  })

  test("another model's adapter and another model's run: E_BASE", async () => {
    otherClip(at('other'))
    const merge = { model: at('other'), adapter: at('run', 'adapter'), out: at('never') }
    await expect(mergeFolder(merge)).rejects.toMatchObject({ code: 'E_BASE' })
    await expect(fineTune({ ...settings, model: at('other'), resume: true })).rejects.toMatchObject({ code: 'E_BASE' })
    await expect(fineTune({ ...settings, rank: 3, resume: true })).rejects.toMatchObject({ code: 'E_RUN' })
    expect(existsSync(at('never'))).toBe(false)
  })

  test('an image that vanishes in the middle of a run: E_IMAGE names it, and the run goes on when it is back', async () => {
    cpSync(at('train'), at('vanishing'), { recursive: true })
    const run = { ...settings, data: at('vanishing'), out: at('vanished') }
    const gone = at('vanishing', 'red', '0.png')
    // What is decoded is kept for later epochs, so the image must go before it first comes up.
    rmSync(gone)
    writeFileSync(gone, '')
    const failed = await fineTune(run).catch((error) => error)
    expect(failed).toMatchObject({ code: 'E_IMAGE', message: expect.stringContaining(gone), details: { image: gone } })
    const state = await readRunState(run.out)
    copyFileSync(at('train', 'red', '0.png'), gone)
    const report = await fineTune({ ...run, resume: true })
    expect(report).toMatchObject({ done: true, steps: 9 })
    expect(state === undefined || state.step < 9).toBe(true)
    expectSame(contents(join(run.out, 'merged')), contents(at('run', 'merged')))
  })

  test('skipping broken images ends when too few are left for a batch', async () => {
    cpSync(at('train'), at('rotten'), { recursive: true })
    for (const name of ['red', 'green', 'blue']) for (let i = 1; i < 6; i++) writeFileSync(at('rotten', name, `${i}.png`), 'rotten')
    const run = { ...settings, data: at('rotten'), out: at('rotten-run'), skipBroken: true }
    await expect(fineTune(run)).rejects.toMatchObject({ code: 'E_DATA', message: expect.stringContaining('batch of 6 images') })
    const set = await openDataset(at('rotten'))
    const options = { batchSize: 6, preprocessor: ImagePreprocessor.clip(24), skipBroken: true, dropLast: true, epochs: 1e9 }
    const all = async () => {
      for await (const _ of batches(set, options));
    }
    await expect(all()).rejects.toMatchObject({ code: 'E_DATA' })
  })

  unix('a table that names devices and pipes as images', async () => {
    execFileSync('mkfifo', [at('pipe.png')])
    writeFileSync(at('odd.csv'), `image,label\n/dev/zero,a\n${at('pipe.png')},b\n`)
    const set = await openDataset(at('odd.csv'))
    for (const index of [0, 1]) {
      const one = batches(set.subset([index]), { batchSize: 1, preprocessor: ImagePreprocessor.clip(24) })
      await expect(one.next()).rejects.toMatchObject({ code: 'E_IMAGE' })
    }
  })
})

describe('numbers that are none', () => {
  /** A sum of features that is multiplied by `factor` in the third step. */
  const objective = (factor: number): Objective => {
    let calls = 0
    return {
      loss: (image) => sum(image, ++calls === 3 ? factor : 1e-3),
      settings: {},
      parameters: [],
    }
  }

  test.each([
    ['a loss that is none', Number.NaN],
    ['a loss without end', 3e38],
    ['a gradient that overflows under a finite loss', 1e36],
  ])('%s: E_NAN says at which step, and the last checkpoint is good', async (name, factor) => {
    const clip = await Clip.load(at('clip'), { dtype: 'f32' })
    const method = new RAdapter(clip, { drop: 0 })
    const data = await openDataset(at('train'))
    const out = at(name)
    const trainer = new Trainer(clip, { method, objective: objective(factor), data, epochs: 3, batch: 6, out, checkpointEvery: 1 })
    const run = async () => {
      for await (const event of trainer.run()) if (event.type === 'step') expect(Number.isFinite(event.loss)).toBe(true)
    }
    await expect(run()).rejects.toMatchObject({ code: 'E_NAN', details: { step: 3, checkpoint: 2 } })
    trainer.dispose()
    method.dispose()
    clip.dispose()
    const { step, tensors } = (await readRunState(out))!
    expect(step).toBe(2)
    const file = await openSafetensors(join(out, tensors))
    const bytes = readFileSync(file.path)
    for (const { offset, count } of file.tensors.values())
      for (let i = 0; i < count; i++) if (!Number.isFinite(bytes.readFloatLE(offset + 4 * i))) throw new Error(`not finite: ${i}`)
  })

  test('an image of the brightest and the darkest pixels trains', async () => {
    for (const [name, background] of [
      ['white', '#fff'],
      ['black', '#000'],
    ]) {
      mkdirSync(at('flat', name), { recursive: true })
      for (let i = 0; i < 3; i++)
        await sharp({ create: { width: 50, height: 50, channels: 3, background } }).toFile(at('flat', name, `${i}.png`))
    }
    expect(await fineTune({ ...settings, data: at('flat'), out: at('flat-run'), epochs: 1 })).toMatchObject({ done: true })
  })
})

test('stopped in any phase: a checkpoint or nothing, and it goes on to the same bits', async () => {
  const phases: ((event: FineTuneEvent) => boolean)[] = [
    ({ type }) => type === 'plan',
    ({ type }) => type === 'start',
    (event) => event.type === 'step' && event.step === 1,
    ({ type }) => type === 'checkpoint',
    ({ type }) => type === 'end',
    ({ type }) => type === 'alpha',
    ({ type }) => type === 'saved',
    ({ type }) => type === 'evaluate',
  ]
  const evaluated = { ...settings, tests: [{ name: 'again', path: at('train') }] }
  for (const [i, isPhase] of phases.entries()) {
    const out = at(`stopped-${i}`)
    const abort = new AbortController()
    const reason = new Error('enough')
    const onEvent = (event: FineTuneEvent) => isPhase(event) && abort.abort(reason)
    const end = await fineTune({ ...evaluated, out, signal: abort.signal, onEvent }).catch((error) => error)
    expect(end === reason || (end.done === false && end.files.merged === undefined) || end.done === true).toBe(true)
    expect(abort.signal.aborted).toBe(true)
    if (existsSync(out)) await expectReadable(out)
    expect(await fineTune({ ...evaluated, out, resume: true })).toMatchObject({ done: true })
    expectSame(contents(join(out, 'merged')), contents(at('run', 'merged')))
    expect(leftoversBelow(out)).toEqual([])
  }
})

test('stopped before anything has begun: the reason, and nothing is written', async () => {
  const signal = AbortSignal.abort(new Error('never'))
  const merge = { model: at('clip'), adapter: at('run', 'adapter'), out: at('unborn'), signal }
  await expect(mergeFolder(merge)).rejects.toThrow('never')
  expect(existsSync(at('unborn', 'config.json'))).toBe(false)
})
