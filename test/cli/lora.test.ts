import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'
import { cambium, interruptedAt } from './command.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const bytes = (...parts: string[]) => readFileSync(at(...parts))

beforeAll(async () => {
  tinyClip(at('clip'))
  await tinyImages(at('train'), ['red', 'green', 'blue'], 6)
  await tinyImages(at('test'), ['red', 'green', 'blue'], 2)
})

const common = ['--model', at('clip'), '--dtype', 'f32', '--threads', '2']
const train = (...args: string[]) => [
  'train',
  ...common,
  '--data',
  at('train'),
  '--batch',
  '6',
  '--method',
  'lora',
  '--lr',
  '0.01',
  ...args,
]

test('LoRA from the command line: trained, saved for PEFT, merged, evaluated the same from every form', async () => {
  const more = ['--rank', '4', '--lora-alpha', '6', '--targets', 'q_proj,fc2', '--rslora', '--lora-bias', '--lora-dropout', '0.1']
  const sets = ['--test', `photos=${at('test')}`, '--alphas', '0,1']
  const trained = await cambium(train('--out', at('run'), '--epochs', '3', '--json', ...more, ...sets))
  expect(trained).toMatchObject({ code: 0, err: '' })
  const report = JSON.parse(trained.out)
  expect(report).toMatchObject({ done: true, method: 'lora', files: { adapter: at('run', 'adapter'), merged: at('run', 'merged') } })
  expect(report.results.map(({ name }: { name: string }) => name)).toContain('LoRA')

  const config = JSON.parse(bytes('run', 'adapter', 'adapter_config.json').toString())
  expect(config).toMatchObject({ peft_type: 'LORA', r: 4, lora_alpha: 6, use_rslora: true, lora_bias: true, lora_dropout: 0.1 })
  const { tensors } = await openSafetensors(at('run', 'adapter', 'adapter_model.safetensors'))
  expect(tensors.get('base_model.model.vision_model.encoder.layers.1.mlp.fc2.lora_A.weight')?.shape[0]).toBe(4)

  const evaluate = async (...args: string[]) => {
    const { code, out } = await cambium(['eval', '--dtype', 'f32', '--data', `photos=${at('test')}`, '--json', ...args])
    expect(code).toBe(0)
    return JSON.parse(out).results[0].evaluation.photos
  }
  const trainedFully = report.results.find(({ alpha }: { alpha: number }) => alpha === 1).evaluation.photos
  expect(await evaluate('--model', at('clip'), '--adapter', at('run', 'adapter'))).toEqual(trainedFully)
  const merge = ['merge', '--model', at('clip'), '--adapter', at('run', 'adapter'), '--out', at('merged')]
  expect((await cambium([...merge, '--quiet'])).code).toBe(0)
  expect(await evaluate('--model', at('merged'))).toEqual(trainedFully)
}, 600_000)

test('a run that is interrupted goes on to the same bits, with dropout and accumulation', async () => {
  const options = ['--epochs', '10', '--dora', '--lora-dropout', '0.3', '--val-fraction', '0', '--no-ema', '--checkpoint-every', '3']
  const whole = await cambium(train('--out', at('whole'), '--json', ...options))
  expect(whole.code).toBe(0)
  const stopped = await interruptedAt(at('cut', 'run.json'), train('--out', at('cut'), ...options))
  expect(stopped.code).toBe(130)
  expect((await cambium(train('--out', at('cut'), '--json', '--resume', ...options))).code).toBe(0)
  for (const file of [
    ['adapter', 'adapter_model.safetensors'],
    ['merged', 'model.safetensors'],
  ])
    expect(bytes('cut', ...file).equals(bytes('whole', ...file))).toBe(true)
}, 600_000)

test('wrong settings are mistakes of use or of an option, before anything is written', async () => {
  const refused = async (...args: string[]) => {
    const { code, err } = await cambium(train('--out', at('refused'), ...args))
    return [code, err.trim()]
  }
  expect(await refused('--targets', 'q_prj')).toEqual([
    2,
    expect.stringContaining('targets: expected names of linears, got q_prj; nearest: q_proj'),
  ])
  expect(await refused('--init', 'zeros')).toEqual([2, expect.stringContaining('--init')])
  expect(await refused('--dora', '--init', 'pissa')).toEqual([2, expect.stringContaining('kaiming or gaussian with DoRA')])
}, 600_000)
