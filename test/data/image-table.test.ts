/** CSV, TSV and JSON Lines of (image, caption, label). */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ImageTable, type ImageTableOptions } from '../../lib/data/image-table.js'
import { temporaryFolder } from '../temporary-folder.js'

const root = temporaryFolder()
const open = (name: string, text: string, options?: ImageTableOptions) => {
  writeFileSync(join(root, name), text)
  return ImageTable.open(join(root, name), options)
}

test('CSV with quotes, a byte order mark and windows lines', async () => {
  const set = await open('a.csv', '\uFEFFimage,caption\r\nx/1.jpg,"A dog, ""running"""\r\n\r\n2.jpg,été\r\n')
  expect(set.samples).toEqual([
    { id: 'x/1.jpg', image: join(root, 'x/1.jpg'), captions: ['A dog, "running"'] },
    { id: '2.jpg', image: join(root, '2.jpg'), captions: ['été'] },
  ])
  expect([set.captioned, set.labelled, set.classNames]).toEqual([true, false, []])
})

test('rows of one image are one sample with its captions', async () => {
  const set = await open('b.tsv', 'image\tcaption\n1.jpg\ta\n2.jpg\tb\n1.jpg\tc\n')
  expect(set.samples.map(({ id, captions }) => [id, captions])).toEqual([
    ['1.jpg', ['a', 'c']],
    ['2.jpg', ['b']],
  ])
})

test('JSON Lines, captions as a list, labels as names', async () => {
  const set = await open(
    'c.jsonl',
    '{"image": "/abs/1.jpg", "caption": ["a", "b"], "label": "dog"}\n\n{"image": "2.jpg", "label": "cat", "caption": null}',
  )
  expect(set.samples).toEqual([
    { id: '/abs/1.jpg', image: '/abs/1.jpg', captions: ['a', 'b'], label: 1 },
    { id: '2.jpg', image: join(root, '2.jpg'), label: 0 },
  ])
  expect([set.classNames, set.labelled, set.captioned]).toEqual([['cat', 'dog'], true, false])
})

test('numbers as labels are sorted as numbers; other columns and another root', async () => {
  const set = await open('d.csv', 'file,class\n1.jpg,10\n2.jpg,9\n', { root: '/data', columns: { image: 'file', label: 'class' } })
  expect(set.classNames).toEqual(['9', '10'])
  expect(set.samples).toEqual([
    { id: '1.jpg', image: '/data/1.jpg', label: 1 },
    { id: '2.jpg', image: '/data/2.jpg', label: 0 },
  ])
})

test('given class names: labels are names or numbers of them', async () => {
  const set = await open('e.csv', 'image,label\n1.jpg,dog\n2.jpg,0\n', { classNames: ['cat', 'dog'] })
  expect([...set.labels()]).toEqual([1, 0])
})

test.each<[string, string, string, string, ImageTableOptions?]>([
  ['no image', 'f.csv', 'image,caption\n1.jpg,a\n,b\n', ':3: expected a path in column image'],
  ['no such column', 'g.csv', 'path,caption\n1.jpg,a\n', ':2: expected a path in column image'],
  ['neither caption nor label', 'h.csv', 'image,caption\n1.jpg,\n', ':2: expected a caption or a label'],
  ['labels that disagree', 'i.csv', 'image,label\n1.jpg,a\n1.jpg,b\n', ':3: expected label a as in line 2'],
  ['a class that is not given', 'j.csv', 'image,label\n1.jpg,bird\n', ':2: expected one of 1 classes', { classNames: ['cat'] }],
  ['a class number too high', 'k.csv', 'image,label\n1.jpg,1\n', ':2: expected one of 1 classes', { classNames: ['cat'] }],
  ['too many columns', 'l.csv', 'image,caption\n1.jpg,a,b\n', 'l.csv: '],
  ['broken JSON', 'm.jsonl', '{"image": "1.jpg", "label": 1}\n{', ':2: expected JSON'],
  ['a list', 'n.jsonl', '[]', ':1: expected an object'],
  ['a caption that is a number', 'o.jsonl', '{"image": "1.jpg", "caption": 1}', ':1: caption: expected a string'],
  ['a label that is a list', 'p.jsonl', '{"image": "1.jpg", "label": []}', ':1: label: expected the name or number'],
  ['no rows', 'q.csv', 'image,caption\n', 'expected rows'],
  ['another kind of file', 'r.txt', 'x', 'expected .csv, .tsv, .jsonl or .ndjson'],
])('%s', async (...[, name, text, message, options]) => {
  await expect(open(name, text, options)).rejects.toMatchObject({ code: 'E_DATA', message: expect.stringContaining(message) })
})

test.each(['none.csv', 'none.jsonl'])('%s is not there', async (name) => {
  await expect(ImageTable.open(join(root, name))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
})
