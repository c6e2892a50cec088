import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
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
  // After a power failure that number is another program's.
  writeFileSync(join(run, `.writer.${other.pid}-1.cambium.tmp`), '00000000-0000-4000-8000-000000000000 1234')
  await (await holdFolder(run))()
  other.kill('SIGKILL')
  await gone
  await (await holdFolder(run))()
  expect(readdirSync(run)).toEqual([])
})

test('a process that holds a folder is known by its own life', async () => {
  const run = join(folder, 'held')
  const held = `require(${JSON.stringify(join(__dirname, '../typescript.cjs'))});
    require(${JSON.stringify(join(__dirname, '../../lib/formats/hold-folder.ts'))}).holdFolder(${JSON.stringify(run)}).then(() => console.log('held'))
    setInterval(() => {}, 1000)`
  const other = spawn(process.execPath, ['-e', held])
  const gone = new Promise((resolve) => other.on('close', resolve))
  await new Promise((resolve) => other.stdout.once('data', resolve))
  const [mark] = readdirSync(run)
  expect(readFileSync(join(run, mark), 'utf8')).toMatch(/^[0-9a-f-]{36} \d+$/)
  await expect(holdFolder(run)).rejects.toMatchObject({ code: 'E_OUT' })
  other.kill('SIGKILL')
  await gone
})
