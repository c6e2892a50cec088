import { readFileSync, writeFileSync } from 'node:fs'
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

test('docs/cli.md names the commands that there are', async () => {
  const told = [...readFileSync(join(__dirname, '../../docs/cli.md'), 'utf8').matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, names]) =>
    [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name),
  )
  const { out } = await program(['--help'])
  const commands = [...out.slice(out.indexOf('Commands:')).matchAll(/^ {2}(\w+) /gm)].flatMap(([, name]) => (name === 'help' ? [] : [name]))
  expect(told.sort()).toEqual(commands.sort())
})

test('every command that computes takes --threads', async () => {
  for (const command of ['train', 'eval', 'merge', 'unmerge', 'extract', 'classify', 'embed'])
    expect((await program([command, '--help'])).out).toContain('--threads <n>')
})

test.each([
  [[], /Usage/],
  [['bogus'], /unknown command 'bogus'/],
  [['train', '--bogus'], /unknown option '--bogus'/],
  [['train', '--epochs', 'many'], /^error: .*--epochs: expected a number, got "many"/],
  [['train', '--model', 'm'], /^error: --data: expected a value, got none; --out: expected a value, got none \(E_USAGE\)$/m],
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
  [['merge', '--model', 'm', '--out', 'o'], /^error: --adapter: expected a value, got none \(E_USAGE\)$/m],
  [['eval', '--protocol', 'few-shot', '--model', 'm', '--out', 'o'], /--datasets: expected a value, got none; --methods: expected a value/],
  [['merge', '--model', 'm', '--adapter', 'a', '--out', 'o', '--alpha', '-1'], /^error: --alpha: expected a number of at least 0, got -1/],
  [['trian'], /^error: unknown command 'trian'; did you mean train\? \(E_USAGE\)$/m],
  [['train', '--epoch', '3'], /^error: unknown option '--epoch'; did you mean --epochs\? \(E_USAGE\)$/m],
  [['train', '--epochs'], /^error: option '--epochs <n>' argument missing \(E_USAGE\)$/m],
  [['train', '--model=', '--data', 'd', '--out', 'o'], /^error: --model: expected a text that is not empty, got "" \(E_USAGE\)$/m],
  [['train', '--model', 'm', '--data', 'd', '--out', 'o', '--layers', '1,x'], /^error: --layers: expected a number, got "x" \(E_USAGE\)$/m],
  [['train', '--model', 'm', '--data', 'd', '--out', 'o', '--lr='], /^error: --lr: expected a number, got "" \(E_USAGE\)$/m],
  [
    ['train', '--model', 'm', '--data', 'd', '--out', 'o', '--test', 'a='],
    /^error: --test: expected paths, such as photos=DIR, got \["a="\]/m,
  ],
  [
    ['train', '--model', 'm', '--data', 'd', '--out', 'o', '--baselines', 'full,all'],
    /^error: --baselines: expected full, flyp, or both with a comma between them, got "full,all" \(E_USAGE\)$/m,
  ],
  [
    ['train', '--model', 'm', '--data', 'd', '--out', 'o', '--threads', '1e12'],
    /^error: --threads: expected a number of at most 1024, got/,
  ],
  [['train', '--model', 'm', '--data', 'd', '--out', 'o', '--device', 'tpu'], /^error: --device: expected cpu, cuda or auto, got "tpu"/],
  [['train', '--config='], /^error: --config: expected a file, got ""/],
  [['train', '--config', 'none.yaml'], /^error: --config none.yaml: expected a YAML file, got no such file or directory \(E_USAGE\)$/m],
  [['eval', '--model', 'm', '--data', 'd', '--out', 'o'], /^error: --out: expected it with --protocol, got it alone \(E_USAGE\)$/m],
  [['merge', '--recipe', 'r', '--model', 'm'], /^error: --model: expected it without --recipe, got both \(E_USAGE\)$/m],
  [['merge', '--model', 'm', '--adapter', 'a', '--out', 'o', '--verify='], /^error: --verify: expected sample, all or true, got ""/],
  [['learn', '--config', 'c', '--method='], /^error: --method: expected the name of a method, got ""/],
  [
    ['train', '--model', 'm', '--data', 'd', '--out', 'o', '--method', 'magic', '--seed', '-1'],
    /^error: --method: .*; --seed: expected a num/,
  ],
  [['embed', 'x.jpg'], /^error: --model: expected a value, got none \(E_USAGE\)$/m],
  [['eval', '--model', 'm'], /--data: expected a set to evaluate on/],
] as const)('%j is a mistake of use: exit code 2, nothing on stdout', async (args, message) => {
  const { code, out, err } = await program(args)
  expect(code).toBe(2)
  expect(out).toBe('')
  expect(err).toMatch(message)
  expect(err).not.toMatch(/^\s+at /m)
})

test('no message of a setting has a word of the layer before it', async () => {
  for (const command of ['train', 'learn', 'eval', 'merge', 'unmerge', 'extract', 'classify', 'embed']) {
    const config = join(folder, 'wrong.yaml')
    writeFileSync(config, 'threads: -1\ntasks: []\n')
    const { code, err } = await program([command, '--config', config])
    expect([code, err]).toEqual([2, expect.stringMatching(/^error: (--[a-z-]+: expected |\S+wrong\.yaml: ).*\(E_USAGE\)\n$/)])
  }
})

test('a config file is checked with the flags, which win', async () => {
  const config = join(folder, 'run.yaml')
  writeFileSync(config, 'model: m\nweight-decay: -1\nbogus: 3\n')
  const wrong = await program(['train', '--config', config, '--data', 'd', '--out', 'o'])
  expect(wrong.code).toBe(2)
  expect(wrong.err).toMatch(/--weight-decay: .*unknown --bogus/)
  const both = await program(['train', '--config', config, '--data', 'd', '--epochs', '0'])
  expect(both.err).toBe(
    `error: --out: expected a value, got none; --epochs: expected a number above 0, got 0; ${config}: --weight-decay: expected a number of at least 0, got -1; unknown --bogus (E_USAGE)\n`,
  )
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
