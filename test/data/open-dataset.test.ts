import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDataset, readClassFile } from '../../lib/data/open-dataset.js'

let root: string
const write = (path: string, content: string | object = '') => {
  const file = join(root, path)
  mkdirSync(join(file, '..'), { recursive: true })
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  return file
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cambium-sets-'))
  write('set/test/big_dog/1.jpg')
  write('set/test/cat/1.jpg')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

test('a folder of class folders, named after them', async () => {
  const set = await openDataset(join(root, 'set/test'))
  expect(set.classNames).toEqual(['big dog', 'cat'])
  expect([...set.labels()]).toEqual([0, 1])
})

test('classes.json in the folder or beside it names classes and templates; folders it knows more of do not matter', async () => {
  write('set/classes.json', { classes: { big_dog: 'wolfhound', cat: 'house cat', fox: 'fox' }, templates: ['a {}.'] })
  const set = await openDataset(join(root, 'set/test'))
  expect([set.classNames, set.templates]).toEqual([['wolfhound', 'house cat'], ['a {}.']])
  const other = await openDataset(join(root, 'set/test'), { classNames: { cat: 'lynx' }, templates: ['the {}'] })
  expect([other.classNames, other.templates]).toEqual([['big dog', 'lynx'], ['the {}']])
})

test('the training set names the classes of a set that says nothing', async () => {
  const fallback = { classNames: { cat: 'puma', owl: 'owl' }, templates: ['{}!'] }
  const set = await openDataset(join(root, 'set/test'), { fallback })
  expect([set.classNames, set.templates]).toEqual([['big dog', 'puma'], ['{}!']])
})

test.each([
  ['captions.jsonl', '{"image": "a.jpg", "captions": ["one", "two"]}\n'],
  ['captions.csv', 'title,filepath\none,a.jpg\ntwo,a.jpg\n'],
])('a table, whatever its columns go by: %s', async (name, content) => {
  const set = await openDataset(write(name, content))
  expect(set.captioned).toBe(true)
  expect(set.samples[0].captions).toEqual(['one', 'two'])
})

test('files of class names in every form', async () => {
  expect(await readClassFile(write('a.json', ['x', 'y']))).toEqual({ classNames: ['x', 'y'] })
  expect(await readClassFile(write('b.json', { d: 'dog' }))).toEqual({ classNames: { d: 'dog' } })
  expect(await readClassFile(write('c.txt', 'x\n\ny\n'))).toEqual({ classNames: ['x', 'y'] })
  expect(await readClassFile(write('d.json', { classes: ['x'], templates: ['a {}'] }))).toEqual({ classNames: ['x'], templates: ['a {}'] })
})

test.each([
  [{ classes: { a: 1 } }, 'E_CLASS_NAMES'],
  [{ classes: { a: 'a' }, templates: 'a {}' }, 'E_CONFIG'],
  [{ classes: { a: 'a' }, templates: ['none'] }, 'E_TEMPLATE'],
])('a malformed file %j is %s', async (content, code) => {
  await expect(readClassFile(write('x.json', content))).rejects.toMatchObject({ code })
})

test('a path that is not there', async () => {
  await expect(openDataset(join(root, 'nowhere'))).rejects.toMatchObject({
    code: 'E_NOT_FOUND',
    message: expect.stringContaining('nowhere'),
  })
})
