import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Dataset } from '../../lib/data/dataset.js'
import { PREDICTION_FILE, PredictionRecord, readPredictions } from '../../lib/train/prediction-file.js'
import { temporaryFolder } from '../temporary-folder.js'

const folder = temporaryFolder()
const samples = [
  { id: 'cat/1.png', image: 'photos/cat/1.png', label: 0 },
  { id: 'dog/1.png', image: 'photos/dog/1.png', label: 1 },
  { id: 'else', image: '/other/2.png', label: 1 },
  { id: 'made', image: { bytes: new Uint8Array(), name: 'made' }, label: 0 },
]
const pets = { name: 'pets', data: new Dataset(samples, { classNames: ['a cat', 'a "dog"'] }) }
const said = { name: 'said', data: new Dataset([{ id: 'x.png', image: 'y/x.png', captions: ['one', 'two'] }]) }

const predictions = (task: 'classification' | 'retrieval', rows: readonly [number, number][]) => ({
  task,
  samples: Int32Array.from(rows, ([sample]) => sample),
  values: Int32Array.from(rows, ([, value]) => value),
})

test('what is written is read', async () => {
  const record = new PredictionRecord()
  record.add(
    pets,
    0,
    predictions('classification', [
      [0, 1],
      [2, 1],
      [3, 0],
    ]),
  ) // prettier-ignore
  record.add(said, 0, predictions('retrieval', [[0, 7]]))
  record.add(
    pets,
    0.5,
    predictions('classification', [
      [0, 0],
      [2, 1],
      [3, 1],
    ]),
  ) // prettier-ignore
  record.add(said, 0.5, predictions('retrieval', [[0, 1]]))
  await record.write(folder)
  expect(await readPredictions(folder)).toEqual([
    {
      set: 'pets',
      task: 'classification',
      classes: ['a cat', 'a "dog"'],
      folder: `${resolve('photos')}/`,
      alphas: [0, 0.5],
      images: [
        { id: 'cat/1.png', label: 0, values: [1, 0], image: resolve('photos/cat/1.png') },
        { id: 'else', label: 1, values: [1, 1], image: '/other/2.png' },
        { id: 'made', label: 0, values: [0, 1] },
      ],
    },
    {
      set: 'said',
      task: 'retrieval',
      classes: [],
      folder: `${resolve('y')}/`,
      alphas: [0, 0.5],
      images: [{ id: 'x.png', caption: 'one', values: [7, 1], image: resolve('y/x.png') }],
    },
  ])
  expect(readFileSync(join(folder, PREDICTION_FILE), 'utf8').split('\n')[1]).toBe('["cat/1.png",0,[1,0]]')
})

const head = '{"set":"s","task":"classification","classes":["a","b"],"alphas":[0,1]}'

test.each([
  ['no JSON', `${head}\n["x",0,`],
  ['an image before its set', '["x",0,[0,1]]'],
  ['a class that is none', `${head}\n["x",0,[0,2]]`],
  ['a label that is none', `${head}\n["x",-1,[0,1]]`],
  ['a model too few', `${head}\n["x",0,[0]]`],
  ['a caption for a class', `${head}\n["x","a",[0,1]]`],
  ['a path that is none', `${head}\n["x",0,[0,1],5]`],
  ['a set without a task', '{"set":"s","classes":[],"alphas":[0]}'],
  ['classes that are no names', '{"set":"s","task":"classification","classes":[1],"alphas":[0]}'],
])('%s is refused with its line', async (what, text) => {
  const broken = join(folder, what)
  mkdirSync(broken)
  writeFileSync(join(broken, PREDICTION_FILE), `${text}\n`)
  const line = text.split('\n').length
  await expect(readPredictions(broken)).rejects.toMatchObject({ code: 'E_DATA', message: expect.stringContaining(`line ${line}:`) })
})

test('a file that is not there is said', async () => {
  await expect(readPredictions(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
})
