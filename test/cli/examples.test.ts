import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { learnSettings, methodsOf } from '../../lib/cli/learn-settings.js'
import { protocolSettings } from '../../lib/cli/protocol-settings.js'
import { readSettings } from '../../lib/cli/settings.js'
import { LEARNER_NAMES, settingsToTry } from '../../lib/continual/learners/registry.js'
import { PROTOCOLS } from '../../lib/protocols/protocol.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
const root = join(__dirname, '../..')

// The examples import the built package by its name, as their readers do.
test('examples/r-adapter.mjs does what it says', async () => {
  const images = await tinyImages(join(folder, 'images'), ['red', 'green', 'blue'], 5)
  const args = [join(root, 'examples/r-adapter.mjs'), tinyClip(join(folder, 'clip')), images, join(folder, 'out')]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  expect(stdout).toMatch(/step 5\/5: loss/)
  expect(stdout).toMatch(/alpha [\d.]+: [\d.]+ % -> [\d.]+ %, saved in/)
  for (const what of ['adapter/adapter_config.json', 'merged/config.json']) expect(existsSync(join(folder, 'out', what))).toBe(true)
})

test('examples/diki.mjs does what it says', async () => {
  const folders = [
    await tinyImages(join(folder, 'first'), ['red', 'green'], 6),
    await tinyImages(join(folder, 'second'), ['blue', 'black'], 6),
  ]
  const args = [join(root, 'examples/diki.mjs'), tinyClip(join(folder, 'diki-clip')), ...folders]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  expect(stdout).toMatch(/task 0, step 5\/5: loss [\d.]+\n.*task 1, step 5\/5: loss/s)
  for (const name of folders) expect(stdout).toMatch(new RegExp(`${name}: [\\d.]+ %, mean weight [\\d.]+\\n`))
})

const taskFiles = readdirSync(join(root, 'examples')).filter((name) => /^tasks.*\.yaml$/.test(name))

test.each(taskFiles)('examples/%s is what cambium learn reads', async (name) => {
  const settings = await readSettings(learnSettings, { config: join(root, 'examples', name), model: 'm', out: 'o' })
  const methods = methodsOf(settings, LEARNER_NAMES)
  for (const { method, settings: own } of methods) expect(settingsToTry(method, own).length).toBeGreaterThan(0)
})

test.each(PROTOCOLS)('examples/%s.yaml is what cambium eval reads', async (protocol) => {
  const settings = await readSettings(protocolSettings, {
    protocol,
    config: join(root, 'examples', `${protocol}.yaml`),
    model: 'm',
    out: 'o',
  })
  expect(settings.datasets.length).toBeGreaterThan(0)
  expect(settings.methods.map(({ name }) => name)).toEqual(['R-Adapter', 'full fine-tuning'])
})
