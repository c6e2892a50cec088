import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { FileHandle, makeFolders } from '../lib/files.js'

const folder = mkdtempSync(join(tmpdir(), 'cambium-files-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('a file is written at its end, read at a position and closed once', async () => {
  const path = join(folder, 'appended')
  const first = await FileHandle.open(path, 'wx', 0o600)
  await first.write(Buffer.from('one '))
  expect((await first.stat()).mode & 0o777).toBe(0o600)
  await first.sync()
  await first.close()
  const second = await FileHandle.open(path, 'a')
  await second.write(Buffer.from('two'))
  await first.close() // must not close the second, which has its number
  await second.write(Buffer.from('!'))
  await second.close()
  expect(readFileSync(path, 'utf8')).toBe('one two!')
  const third = await FileHandle.open(path)
  const bytes = Buffer.alloc(6, '.')
  expect((await third.read(bytes, 1, 4, 6)).bytesRead).toBe(2)
  expect(bytes.toString()).toBe('.o!...')
  await third.close()
  await expect(FileHandle.open(path, 'wx')).rejects.toMatchObject({ code: 'EEXIST' })
})

test('folders are made with those above them; what cannot be is an error and no endless loop', async () => {
  await Promise.all([makeFolders(join(folder, 'a/b/c')), makeFolders(join(folder, 'a/b/d'))])
  await makeFolders(join(folder, 'a/b/c'))
  expect(readdirSync(join(folder, 'a/b')).sort()).toEqual(['c', 'd'])
  for (const path of ['/proc/none', '/proc/none/below']) await expect(makeFolders(path)).rejects.toMatchObject({ code: 'ENOENT' })
  await expect(makeFolders(join(folder, 'appended'))).rejects.toMatchObject({ code: 'EEXIST' })
  await expect(makeFolders(join(folder, 'appended/below'))).rejects.toMatchObject({ code: 'ENOTDIR' })
})

test('workers that are terminated in the middle of opening files do not abort the process', async () => {
  const args = ['--require', join(__dirname, 'typescript.cjs'), join(__dirname, 'files-child.ts'), folder, '24']
  const { stdout } = await promisify(execFile)(process.execPath, args)
  expect(stdout).toBe('whole\n')
}, 600_000)
