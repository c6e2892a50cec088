import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
const root = join(__dirname, '../..')

// The example imports the built package by its name, as its readers do.
test('examples/r-adapter.mjs does what it says', async () => {
  const images = await tinyImages(join(folder, 'images'), ['red', 'green', 'blue'], 5)
  const args = [join(root, 'examples/r-adapter.mjs'), tinyClip(join(folder, 'clip')), images, join(folder, 'out')]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  expect(stdout).toMatch(/step 5\/5: loss/)
  expect(stdout).toMatch(/alpha [\d.]+: [\d.]+ % -> [\d.]+ %, saved in/)
  for (const what of ['adapter/adapter_config.json', 'merged/config.json']) expect(existsSync(join(folder, 'out', what))).toBe(true)
})
