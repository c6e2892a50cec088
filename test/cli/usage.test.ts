import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../temporary-folder.js'
import { cambium, program } from './command.js'

const folder = temporaryFolder()

test('--help lists the commands and --version is that of the package', async () => {
  const [help, version] = await Promise.all([cambium(['--help']), cambium(['--version'])])
  expect([help.code, version.code]).toEqual([0, 0])
  expect(help.out).toMatch(/train.*eval.*merge/s)
  expect(version.out.trim()).toBe(require('../../package.json').version)
})

test.each(['train', 'eval', 'merge', 'classify', 'embed'])('%s --help has examples', async (command) => {
  const { code, out } = await program([command, '--help'])
  expect(code).toBe(0)
  expect(out).toContain(`cambium ${command} --model`)
})

test('every command that computes takes --threads', async () => {
  for (const command of ['train', 'eval', 'merge', 'unmerge', 'extract', 'classify', 'embed'])
    expect((await program([command, '--help'])).out).toContain('--threads <n>')
})

test.each([
  [[], /Usage/],
  [['bogus'], /unknown command 'bogus'/],
  [['train', '--bogus'], /unknown option '--bogus'/],
  [['train', '--epochs', 'many'], /--epochs.*Expected a number/],
  [['train', '--model', 'm'], /^error: settings: --data: expected a value, got none; --out: expected a value, got none \(E_USAGE\)$/m],
  [['train', '--model', 'm', '--data', 'd', '--out', 'o', '--method', 'magic'], /--method: .*r-adapter/],
  [['train', '--model', 'm', '--data', 'd', '--out', 'o', '--memory-budget', 'much'], /--memory-budget: expected a size/],
  [['eval', '--model', 'm', '--alpha', '0.5', '--data', 'x=y'], /alpha: expected an adapter/],
  [
    ['train', '--model', 'm', '--data', 'd', '--out', 'o', '--targets', 'q_proj'],
    /^error: --targets: expected --method lora, got r-adapter/,
  ],
  [
    ['train', '--model', 'm', '--data', 'd', '--out', 'o', '--method', 'full', '--dora'],
    /^error: --dora: expected --method lora, got full/,
  ],
  [['merge', '--model', 'm', '--out', 'o'], /^error: settings: --adapter: expected a value, got none \(E_USAGE\)$/m],
  [['eval', '--protocol', 'few-shot', '--model', 'm', '--out', 'o'], /--datasets: expected a value, got none; --methods: expected a value/],
  [['merge', '--model', 'm', '--adapter', 'a', '--out', 'o', '--alpha', '-1'], /--alpha/],
  [['eval', '--model', 'm'], /--data: expected a set to evaluate on/],
] as const)('%j is a mistake of use: exit code 2, nothing on stdout', async (args, message) => {
  const { code, out, err } = await program(args)
  expect(code).toBe(2)
  expect(out).toBe('')
  expect(err).toMatch(message)
  expect(err).not.toMatch(/^\s+at /m)
})

test('a config file is checked with the flags, which win', async () => {
  const config = join(folder, 'run.yaml')
  writeFileSync(config, 'model: m\nweight-decay: -1\nbogus: 3\n')
  const wrong = await program(['train', '--config', config, '--data', 'd', '--out', 'o'])
  expect(wrong.code).toBe(2)
  expect(wrong.err).toMatch(/--weight-decay: .*unknown --bogus/)
  writeFileSync(config, 'model: nowhere\nadapter: elsewhere\nout: there\n')
  const flags = await program(['merge', '--config', config, '--model', 'here-not'])
  expect(flags.code).toBe(1)
  expect(flags.err).toMatch(/here-not/)
  writeFileSync(config, '- a\n- b\n')
  expect(await program(['merge', '--config', config])).toMatchObject({ code: 2, err: expect.stringContaining('expected a map') })
  expect(await program(['merge', '--config', join(folder, 'none.yaml')])).toMatchObject({
    code: 2,
    err: expect.stringContaining('none.yaml'),
  })
})
