import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeRun } from '../report/run-folder.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { cambium, program } from './command.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)

test('train writes the report, with baselines beside the run', async () => {
  tinyClip(at('clip'))
  await tinyImages(at('train'), ['red', 'green', 'blue'], 6)
  await tinyImages(at('test'), ['red', 'green'], 2)
  const args = ['train', '--model', at('clip'), '--data', at('train'), '--dtype', 'f32', '--batch', '6', '--epochs', '1', '--lr', '1e-3']
  const sets = ['--alphas', '0,1', '--test', `photos=${at('test')}`, '--ood', `other=${at('test')}`]
  const { code, out, err } = await cambium([...args, ...sets, '--out', at('run'), '--baselines', 'full', '--no-curve', '--json'])
  expect([code, err]).toEqual([0, ''])
  expect(JSON.parse(out)).toMatchObject({ done: true, files: { report: at('run', 'report.html') } })
  expect(JSON.parse(readFileSync(at('run', 'baselines', 'full', 'run.json'), 'utf8')).settings.lr).toBe(1e-5)
  expect(readFileSync(at('run', 'report.html'), 'utf8')).toContain('WiSE-FT')
  const again = await cambium([...args, '--out', at('bare'), '--val-fraction', '0', '--no-report'])
  expect(again.code).toBe(0)
  expect([existsSync(at('bare', 'report.html')), existsSync(at('bare', 'events.jsonl'))]).toEqual([false, true])
})

test('report makes it again', async () => {
  writeRun(at('sketch'))
  writeRun(at('other'), { method: 'full' })
  expect(await program(['report', at('sketch')])).toEqual({ code: 0, out: `report: ${at('sketch', 'report.html')}\n`, err: '' })
  const told = await program(['report', at('sketch'), '--compare', at('other'), '--no-pictures', '--out', at('r.html'), '--json'])
  expect(told.code).toBe(0)
  expect(JSON.parse(told.out)).toEqual({ file: at('r.html'), bytes: readFileSync(at('r.html')).length, problems: [] })
})

test('what is broken is a warning, what is no run an error, what is no use exit code 2', async () => {
  writeRun(at('torn'))
  writeFileSync(at('torn', 'predictions.jsonl'), '[')
  const torn = await program(['report', at('torn')])
  expect(torn).toMatchObject({ code: 0, err: expect.stringMatching(/^warning: predictions\.jsonl, line 1: .*\n$/) })
  mkdirSync(at('empty'))
  expect(await program(['report', at('empty')])).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/\(E_NOT_FOUND\)\n$/) })
  expect((await program(['report'])).code).toBe(2)
  expect((await program(['train', '--model', 'm', '--data', 'd', '--out', 'o', '--baselines', 'none'])).code).toBe(2)
})
