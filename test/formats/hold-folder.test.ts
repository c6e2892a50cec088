import { spawn } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { holdFolder } from '../../lib/formats/hold-folder.js'
import { temporaryFolder } from '../temporary-folder.js'

const folder = temporaryFolder()

test('a folder is held until it is released; what another process holds is refused while it lives', async () => {
  const run = join(folder, 'a/run')
  const release = await holdFolder(run)
  expect(readdirSync(run)).toHaveLength(1)
  await release()
  expect(readdirSync(run)).toEqual([])

  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  const gone = new Promise((resolve) => other.on('close', resolve))
  writeFileSync(join(run, `.writer.${other.pid}-1.cambium.tmp`), '')
  const message = expect.stringContaining(`process ${other.pid} is at work`)
  await expect(holdFolder(run)).rejects.toMatchObject({ code: 'E_OUT', message })
  expect(readdirSync(run)).toHaveLength(1)
  other.kill('SIGKILL')
  await gone
  await (await holdFolder(run))()
  expect(readdirSync(run)).toEqual([])
})
