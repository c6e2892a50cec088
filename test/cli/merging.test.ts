import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { madeUpAdapter, madeUpCheckpoint } from '../merge/made-up.js'
import { temporaryFolder } from '../temporary-folder.js'
import { program } from './command.js'

const root = temporaryFolder()
const at = (...parts: string[]) => join(root, ...parts)

beforeAll(async () => {
  await madeUpCheckpoint(
    at('model'),
    { 'a.weight': { shape: [12, 8], dtype: 'BF16' }, 'b.weight': { shape: [6, 8], dtype: 'BF16' } },
    { shards: 2 },
  )
  await madeUpAdapter(at('one'), { modules: { a: [12, 8] } })
  await madeUpAdapter(at('two'), { modules: { a: [12, 8] }, seed: 4 })
})

test('merge, look, unmerge, extract', async () => {
  const dry = await program(['merge', '--model', at('model'), '--adapter', at('one'), '--out', at('merged'), '--dry-run'])
  expect(dry.out).toMatch(
    /^tensor .*\n-.*\na\.weight +BF16 +\[12,8\] +\d+ B\nwould change 1 of 2 tensors, .* in 2 files; nothing written\n$/,
  )
  expect(existsSync(at('merged'))).toBe(false)
  const merge = ['merge', '--model', at('model'), '--adapter', at('one'), '--adapter', at('two'), '--out', at('merged')]
  const merged = await program([...merge, '--weights', '0.5,-1', '--safe', '--verify', '--keep-original', '--json'])
  expect(merged).toMatchObject({ code: 0, err: '' })
  const report = JSON.parse(merged.out)
  expect(report).toMatchObject({ tensors: 2, adapters: [{ kind: 'lora', weight: 0.5 }, { weight: -1 }], nonFinite: {} })
  expect(report.drift[0].maxUlp).toBeLessThanOrEqual(0.5)
  const told = await program([...merge, '--verify', 'all'])
  expect(told.out).toMatch(/a\.weight +0\.\d+ +0\.\d+ .*\n1 tensors verified against float64\n\nmerged 1 of 2 tensors/)
  await program([...merge, '--keep-original'])
  const back = await program(['unmerge', '--model', at('merged'), '--original', at('model'), '--out', at('back')])
  expect(back.out).toMatch(
    /restored by original bytes: 1 of 2 tensors.*\nit is the base that was merged .*\nagainst the original: 1 of 1 tensors have the same bits/,
  )
  const lora = await program([
    'extract',
    '--base',
    at('model'),
    '--model',
    at('merged'),
    '--rank',
    '3',
    '--targets',
    'a',
    '--out',
    at('lora'),
  ])
  expect(lora.out).toMatch(/^module .*\n-.*\na +\[12,8\] .* %\n1 modules of rank 3, in .*lora\n$/)
  expect(JSON.parse(readFileSync(at('lora', 'adapter_config.json'), 'utf8'))).toMatchObject({ r: 3, target_modules: ['a'] })
})

test('a recipe, of adapters and of checkpoints', async () => {
  writeFileSync(at('svd.yaml'), `method: svd\nrank: 2\nadapters:\n  - path: ${at('one')}\n  - path: ${at('two')}\n    weight: 0.5\n`)
  const combined = await program(['merge', '--recipe', at('svd.yaml'), '--out', at('both')])
  expect(combined).toMatchObject({
    code: 0,
    err: '',
    out: expect.stringMatching(/^combined 2 adapters, 1 modules of rank 2, .* % is lost at most: .*both\n$/),
  })
  writeFileSync(at('soup.yaml'), `method: linear\nout: ${at('soup')}\nmodels:\n  - path: ${at('model')}\n  - path: ${at('merged')}\n`)
  const soup = await program(['merge', '--recipe', at('soup.yaml'), '--json'])
  expect(JSON.parse(soup.out)).toMatchObject({ kind: 'checkpoint', out: at('soup'), tensors: 2 })
})

test('what is wrong in a recipe is told by its place in the file', async () => {
  const recipe = 'method: tis\nmodels:\n  - {path: a, wieght: 1}\n  - {path: b, weight: much}\nout: o\n'
  writeFileSync(at('wrong.yaml'), recipe)
  const outcome = await program(['merge', '--recipe', at('wrong.yaml')])
  expect(outcome).toMatchObject({ code: 2, out: '' })
  expect(outcome.err).toBe(
    `error: --recipe ${at('wrong.yaml')}: method: expected linear, slerp, wise_ft, task_arithmetic, ties, dare_linear, dare_ties or ` +
      'magnitude_prune, got "tis"; models.0: unknown wieght; did you mean weight?; models.1.weight: expected a number, got "much" (E_USAGE)\n',
  )
})

test.each([
  [
    'weights for other adapters',
    ['merge', '--model', 'm', '--adapter', 'a', '--weights', '1,2', '--out', 'o'],
    2,
    /--weights: expected one for each of 1 adapters/,
  ],
  [
    'a recipe and an adapter',
    ['merge', '--recipe', 'r.yaml', '--adapter', 'a'],
    2,
    /^error: --adapter: expected it without --recipe, got both/,
  ],
  ['no recipe there', ['merge', '--recipe', join(root, 'none.yaml'), '--out', 'o'], 2, /--recipe .*none\.yaml/],
  ['nothing to unmerge', ['unmerge', '--model', at('model'), '--out', at('x')], 1, /E_UNMERGE/],
  [
    'one checkpoint twice',
    ['extract', '--base', at('model'), '--model', at('model'), '--out', at('x')],
    2,
    /expected a matrix that differs/,
  ],
])('%s', async (_, args, code, message) => {
  const outcome = await program(args)
  expect([outcome.code, outcome.out]).toEqual([code, ''])
  expect(outcome.err).toMatch(message)
})
