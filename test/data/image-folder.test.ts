/** Classes from folders and their names. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { nameOfFolder, readClassNames } from '../../lib/data/class-names.js'
import { ImageFolder } from '../../lib/data/image-folder.js'
import { classPrompts, fillTemplate } from '../../lib/data/prompts.js'
import { temporaryFolder } from '../temporary-folder.js'

const root = temporaryFolder()
function tree(name: string, files: string[]): string {
  for (const file of files) {
    const path = join(root, name, file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, '')
  }
  return join(root, name)
}
const pets = tree('pets', [
  'golden_retriever/2.JPG',
  'golden_retriever/10.jpg',
  'golden_retriever/deep/er/1.png',
  'cat/a.webp',
  'cat/notes.txt',
  'cat/.hidden.png',
  '.git/x.png',
  'readme.md',
  'Zebra/z.jpeg',
])

test('a class a folder, sorted, deeper folders included, hidden and other files not', async () => {
  const set = await ImageFolder.open(pets)
  expect(set.folders).toEqual(['Zebra', 'cat', 'golden_retriever'])
  expect(set.classNames).toEqual(['Zebra', 'cat', 'golden retriever'])
  expect(set.samples.map(({ id, label }) => [id, label])).toEqual([
    ['Zebra/z.jpeg', 0],
    ['cat/a.webp', 1],
    ['golden_retriever/10.jpg', 2],
    ['golden_retriever/2.JPG', 2],
    ['golden_retriever/deep/er/1.png', 2],
  ])
  expect(set.samples[1].image).toBe(join(pets, 'cat/a.webp'))
  expect([set.length, set.labelled, set.captioned, [...set.labels()]]).toEqual([5, true, false, [0, 1, 2, 2, 2]])
})

test('folders of another set give its labels', async () => {
  const other = tree('other', ['cat/1.png'])
  const set = await ImageFolder.open(other, { folders: ['cat'], templates: ['a sketch of a {}.'] })
  expect([set.samples[0].label, set.templates]).toEqual([0, ['a sketch of a {}.']])
  await expect(ImageFolder.open(other, { folders: ['dog', 'cat'] })).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
})

describe('names of classes', () => {
  const write = (name: string, text: string) => {
    writeFileSync(join(root, name), text)
    return join(root, name)
  }
  test('underscores are spaces', () => expect(nameOfFolder('old_world__flycatcher_')).toBe('old world flycatcher'))
  test.each<[string, ConstructorParameters<typeof Object>[0], string[]]>([
    ['a list', ['zebra', 'house cat', 'dog'], ['zebra', 'house cat', 'dog']],
    ['an object, in part', { cat: 'house cat' }, ['Zebra', 'house cat', 'golden retriever']],
  ])('%s', async (_, classNames, expected) => {
    expect((await ImageFolder.open(pets, { classNames })).classNames).toEqual(expected)
    expect((await ImageFolder.open(pets, { classNames: write('names.json', JSON.stringify(classNames)) })).classNames).toEqual(expected)
  })
  test('lines of text', async () =>
    expect(await readClassNames(write('names.txt', 'zebra \r\n\nhouse cat\ndog'))).toEqual(['zebra', 'house cat', 'dog']))
  test.each<[string, string[] | Record<string, string>]>([
    ['a list of another length', ['a', 'b']],
    ['a folder that is not there', { dog: 'x' }],
  ])('%s is refused', async (_, classNames) => {
    await expect(ImageFolder.open(pets, { classNames })).rejects.toMatchObject({ code: 'E_CLASS_NAMES' })
  })
  test.each(['{"a": 1}', '[1]', '"a"', '{', '[""]'])('%s is refused', async (text) => {
    await expect(readClassNames(write('bad.json', text))).rejects.toMatchObject({ code: 'E_CLASS_NAMES' })
  })
})

describe('templates', () => {
  test('one place for the name, whatever it holds', () => {
    expect(fillTemplate('a photo of a {}.', '$& cat')).toBe('a photo of a $& cat.')
    expect(classPrompts(['a', 'b'], ['{}', 'x {}'])).toEqual([
      ['a', 'x a'],
      ['b', 'x b'],
    ])
  })
  test.each(['a photo', '{} and {}', '{ }'])('%s is refused', async (template) => {
    await expect(ImageFolder.open(pets, { templates: [template] })).rejects.toMatchObject({ code: 'E_TEMPLATE' })
  })
})

test('no folder, no classes, no images', async () => {
  await expect(ImageFolder.open(join(root, 'none'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
  await expect(ImageFolder.open(tree('flat', ['a.png']))).rejects.toMatchObject({ code: 'E_DATA' })
  await expect(ImageFolder.open(tree('texts', ['a/a.txt']))).rejects.toMatchObject({ code: 'E_DATA' })
})

test('links count as what they lead to; one to a folder above is left out', async () => {
  const linked = tree('linked', ['real/1.png', 'store/2.png', 'store/deep/3.png'])
  symlinkSync(join(linked, 'store'), join(linked, 'link'))
  symlinkSync(join(linked, 'real', '1.png'), join(linked, 'real', '4.png'))
  symlinkSync(linked, join(linked, 'real', 'round'))
  symlinkSync(join(linked, 'real'), join(linked, 'real', 'itself'))
  symlinkSync(join(linked, 'nowhere'), join(linked, 'real', 'lost'))
  const set = await ImageFolder.open(linked)
  expect(set.folders).toEqual(['link', 'real', 'store'])
  expect(set.samples.map(({ id }) => id)).toEqual([
    'link/2.png',
    'link/deep/3.png',
    'real/1.png',
    'real/4.png',
    'store/2.png',
    'store/deep/3.png',
  ])
})
