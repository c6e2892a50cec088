import { loraSettings } from '../../lib/cli/lora-settings.js'
import { readSettings, trainSettings } from '../../lib/cli/settings.js'

const parse = async (flags: Record<string, unknown>) => {
  const settings = await readSettings(trainSettings, { model: 'm', data: 'd', out: 'o', method: 'lora', ...flags })
  return loraSettings(settings)
}

test.each([
  ['q_proj,fc1', ['q_proj', 'fc1']],
  ['vision_model.encoder.layers.3.mlp.fc1', ['vision_model.encoder.layers.3.mlp.fc1']],
  ['all-linear', 'all-linear'],
  ['.*layers\\.[01]\\..*q_proj', '.*layers\\.[01]\\..*q_proj'],
  [
    ['q_proj', 'fc2'],
    ['q_proj', 'fc2'],
  ],
])('targets %j', async (targets, expected) => {
  expect((await parse({ targets })).lora.targets).toEqual(expected)
})

test('what is LoRA’s goes to LoRA, and nothing of it stays', async () => {
  const { lora, rest } = await parse({ loraAlpha: 4, loraDropout: 0.1, loraBias: true, rankPattern: { fc1: 2 }, rank: 3, epochs: 2 })
  expect(lora).toMatchObject({ alpha: 4, dropout: 0.1, bias: true, rankPattern: { fc1: 2 } })
  expect(rest).toMatchObject({ model: 'm', rank: 3, epochs: 2 })
  expect(Object.keys(rest).filter((key) => key.startsWith('lora'))).toEqual([])
})

test.each([
  [{ loraDropout: 1 }, '--lora-dropout'],
  [{ tower: 'audio' }, '--tower'],
  [{ rankPattern: { fc1: 0 } }, '--rank-pattern'],
  [{ layers: [-1] }, '--layers'],
])('%j is a mistake of use', async (flags, named) => {
  await expect(parse(flags)).rejects.toMatchObject({ code: 'E_USAGE', message: expect.stringContaining(named) })
})
