import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { evaluateStage, unionOf } from '../../lib/continual/evaluate-stage.js'
import type { Learner } from '../../lib/continual/learner.js'
import { type StreamSpec, taskSpec } from '../../lib/continual/task-spec.js'
import { openTasks, openTest } from '../../lib/continual/tasks.js'
import type { Dataset } from '../../lib/data/dataset.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyImages } from '../tiny-clip.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const NAMES = ['ant', 'bee', 'cat', 'dog', 'eel', 'fox', 'gnu']
const ids = (data?: Dataset) => data?.samples.map(({ id }) => id) ?? []

beforeAll(async () => {
  await tinyImages(at('train'), NAMES, 10)
  await tinyImages(at('test'), NAMES, 2)
  await tinyImages(at('other'), ['bee', 'gnat'], 4)
})

const task = (more: object = {}) => ({ name: 'animals', train: at('train'), test: at('test'), ...more })
const open = (more: Partial<StreamSpec>, seed = 0) => openTasks({ tasks: [task()], ...more } as StreamSpec, { seed })

describe('one dataset by classes', () => {
  const byClasses = { protocol: 'class-incremental', base: 3, increment: 2 } as const

  test('base, then increments, the last one smaller; labels count the task’s own classes', async () => {
    const { tasks } = await open({ ...byClasses, order: 'given', tasks: [task({ validation: 0.2 })] })
    expect(tasks.map(({ name, classes }) => [name, classes.classNames])).toEqual([
      ['animals-1', ['ant', 'bee', 'cat']],
      ['animals-2', ['dog', 'eel']],
      ['animals-3', ['fox', 'gnu']],
    ])
    expect((await open({ ...byClasses, base: 4, increment: 2 })).tasks.map(({ classes }) => classes.classNames.length)).toEqual([4, 2, 1])
    expect((await open({ ...byClasses, base: undefined, increment: 5 })).tasks.map(({ classes }) => classes.classNames.length)).toEqual([
      5, 2,
    ])
    const [, second] = tasks
    expect(new Set(second.train?.labels())).toEqual(new Set([0, 1]))
    expect(ids(second.train).every((id) => /^(dog|eel)/.test(id))).toBe(true)
    expect([second.train?.length, second.validation?.length, second.test?.length]).toEqual([16, 4, 4])
  })

  test('the seed orders the classes; every class comes once', async () => {
    const names = async (seed: number, order?: number) =>
      (await open({ ...byClasses, order }, seed)).tasks.flatMap(({ classes }) => classes.classNames)
    expect([...(await names(1))].sort()).toEqual(NAMES)
    expect(await names(1)).not.toEqual(NAMES)
    expect(await names(1)).not.toEqual(await names(2))
    expect(await names(1, 5)).toEqual(await names(2, 5))
  })

  test('several datasets, or no number of classes, are refused', async () => {
    await expect(open({ ...byClasses, tasks: [task(), task({ name: 'b' })] })).rejects.toMatchObject({ code: 'E_OPTION' })
    await expect(open({ protocol: 'class-incremental' })).rejects.toThrow(/increment: expected a number of classes/)
    await expect(open({ increment: 2 })).rejects.toThrow(/class-incremental alone/)
  })
})

test('domain-incremental wants the same classes in every task', async () => {
  const tasks = [task(), { name: 'again', train: at('test'), test: at('test') }]
  expect((await open({ protocol: 'domain-incremental', tasks })).tasks).toHaveLength(2)
  const other = { name: 'other', train: at('other'), test: 0.5 }
  await expect(open({ protocol: 'domain-incremental', tasks: [task(), other] })).rejects.toMatchObject({ code: 'E_DATA' })
})

describe('what trains, chooses and tests', () => {
  test('shares of one set are disjoint, and the same for every seed', async () => {
    const spec = { tasks: [task({ test: 0.3, validation: 0.2 })] }
    const [first] = (await open(spec)).tasks
    const all = [...ids(first.train), ...ids(first.validation), ...ids(first.test)]
    expect(new Set(all).size).toBe(70)
    expect(first.test?.length).toBe(21)
    const [second] = (await open(spec, 1)).tasks
    expect([ids(second.train), ids(second.test)]).toEqual([ids(first.train), ids(first.test)])
    const [third] = (await open({ ...spec, splitSeed: 1 })).tasks
    expect(ids(third.test)).not.toEqual(ids(first.test))
    expect(first.digest).not.toBe(third.digest)
  })

  test('a tenth chooses unless said otherwise; shots leave a few of each class for it', async () => {
    const sizes = async (more: object) => {
      const [{ train, validation }] = (await open({ tasks: [task(more)] })).tasks
      return [train?.length, validation?.length]
    }
    expect(await sizes({})).toEqual([63, 7])
    expect(await sizes({ validation: 0 })).toEqual([70, undefined])
    expect(await sizes({ validation: at('test') })).toEqual([70, 14])
    expect(await sizes({ shots: 2 })).toEqual([14, 14])
    expect(await sizes({ shots: 5 })).toEqual([35, 28])
    expect(await sizes({ shots: 2, validationShots: 0 })).toEqual([14, undefined])
    expect(await sizes({ shots: 2, validation: at('test') })).toEqual([14, 14])
    expect(await sizes({ shots: 2, validation: 0.2 })).toEqual([14, 14])
  })

  test('shots follow the seed of the run and never meet validation', async () => {
    const of = async (seed: number) => (await open({ tasks: [task({ shots: 2 })] }, seed)).tasks[0]
    const [a, b, c] = [await of(0), await of(1), await of(0)]
    expect(ids(a.train)).not.toEqual(ids(b.train))
    expect(a.digest).toBe(c.digest)
    expect(ids(a.train).filter((id) => ids(a.validation).includes(id))).toEqual([])
  })

  test('a few of the classes, in their order, with names and templates of the task', async () => {
    const classNames = { ...Object.fromEntries(NAMES.map((name) => [name, name])), cat: 'house cat' }
    const more = { classNames, classes: ['house cat', 'ant'], templates: ['a {}'], validation: 0 }
    const stream = await open({ tasks: [task(more)], templates: ['never {}'] })
    const [{ classes, train, test }] = stream.tasks
    expect(classes).toEqual({ classNames: ['house cat', 'ant'], templates: ['a {}'] })
    expect([train?.length, test?.length]).toEqual([20, 4])
    await expect(open({ tasks: [task({ classes: ['cow'] })] })).rejects.toThrow(/animals: classes: expected names of classes, got "cow"/)
    expect((await open({ templates: ['the {}'] })).tasks[0].classes.templates).toEqual(['the {}'])
    expect((await open({})).tasks[0].classes.templates).toEqual(['a photo of a {}.'])
  })

  test('sets of other classes, and names that occur twice, are refused', async () => {
    await expect(open({ tasks: [task({ test: at('other') })] })).rejects.toThrow(
      /animals: expected the test set to have the classes of train/,
    )
    await expect(open({ tasks: [task(), task()] })).rejects.toThrow(/expected a name of its own for each set, got "animals" twice/)
    await expect(open({ watch: [{ name: 'animals', test: at('other') }] })).rejects.toThrow(/"animals" twice/)
    expect(taskSpec.safeParse(task({ name: 'a/b' })).success).toBe(false)
  })

  test('sets that lack a class of train are judged among all of them', async () => {
    await tinyImages(at('few'), ['gnu', 'cat'], 3)
    const more = { test: at('few'), validation: at('few') }
    const [{ classes, test, validation, spec }] = (await open({ tasks: [task(more)] })).tasks
    for (const set of [test, validation]) {
      expect(set?.classNames).toEqual(NAMES)
      expect(new Set(set?.labels())).toEqual(new Set([2, 6]))
    }
    if (!spec) throw new Error('expected how the task was opened')
    expect(ids(await openTest(spec, classes, { images: 6 }))).toHaveLength(6)
    expect(await openTest(spec, classes, { images: 14 })).toBeUndefined() // a class of it has gone
    const byClasses = { protocol: 'class-incremental', order: 'given', increment: 4 } as const
    const [, second] = (await open({ ...byClasses, tasks: [task({ ...more, validation: 0 })] })).tasks
    await expect(open({ ...byClasses, increment: 2, tasks: [task(more)] })).rejects.toThrow(/animals-1: expected images of its classes/)
    expect([second.test?.classNames, ids(second.test)]).toEqual([
      ['eel', 'fox', 'gnu'],
      ['gnu/0.png', 'gnu/1.png', 'gnu/2.png'],
    ])
  })

  test('an earlier test set is found again while its files hold the same classes', async () => {
    cpSync(at('test'), at('moved'), { recursive: true })
    const [{ spec, classes }] = (await open({ tasks: [task({ test: at('moved') })] })).tasks
    if (!spec) throw new Error('expected how the task was opened')
    expect(ids(await openTest(spec, classes))).toHaveLength(14)
    rmSync(at('moved', 'gnu'), { recursive: true })
    expect(await openTest(spec, classes)).toBeUndefined()
    rmSync(at('moved'), { recursive: true })
    expect(await openTest(spec, classes)).toBeUndefined()
  })
})

test('images without a class are refused', async () => {
  writeFileSync(at('captions.csv'), `image,caption\n${at('test', 'ant', '0.png')},an ant\n`)
  await expect(open({ tasks: [task({ train: at('captions.csv') })] })).rejects.toThrow(/expected a class for every image/)
})

describe('label spaces', () => {
  const twoTasks = () =>
    open({ tasks: [task({ classes: ['ant', 'bee'], templates: ['a {}'] }), { name: 'other', train: at('other'), test: 0.5 }] })

  test('equal names are one class with the prompts of both', async () => {
    const { classes, places } = unionOf((await twoTasks()).tasks)
    expect(classes).toEqual([
      { name: 'ant', prompts: ['a ant'] },
      { name: 'bee', prompts: ['a bee', 'a photo of a bee.'] },
      { name: 'gnat', prompts: ['a photo of a gnat.'] },
    ])
    expect(places).toEqual([
      [0, 1],
      [1, 2],
    ])
  })

  /** Says the class of that name for every image. */
  const constant = (name: string, seen: string[][] = []): Learner =>
    ({
      score: async (data: Dataset, classes: { name: string }[], visit: (scores: Float32Array, first: number, rows: number) => void) => {
        seen.push(classes.map((one) => one.name))
        for (let i = 0; i < data.length; i++)
          visit(
            Float32Array.from(classes, (one) => Number(one.name === name)),
            i,
            1,
          )
        return { samples: Int32Array.from(data.samples.keys()), skipped: 0 }
      },
    }) as unknown as Learner

  test('a set is asked for its own classes, and for those of all tasks', async () => {
    const stream = await twoTasks()
    const seen: string[][] = []
    const stage = await evaluateStage(constant('bee', seen), stream, 0)
    expect(seen).toEqual([
      ['ant', 'bee'],
      ['ant', 'bee', 'gnat'],
      ['bee', 'gnat'],
      ['ant', 'bee', 'gnat'],
    ])
    expect(stage).toEqual({
      after: 0,
      unionClasses: 3,
      sets: { animals: { own: 0.5, union: 0.5, images: 4 }, other: { own: 0.5, union: 0.5, images: 4 } },
    })
  })

  test('class-incremental: among the classes so far; a constant predictor gets one in those', async () => {
    const stream = await open({ protocol: 'class-incremental', base: 3, increment: 2, order: 'given' })
    const before = await evaluateStage(constant('ant'), stream, -1)
    expect(before.unionClasses).toBeUndefined()
    expect(before.sets['animals-2']).toEqual({ own: 0.5, images: 4 })
    const stage = await evaluateStage(constant('ant'), stream, 1)
    expect(stage.unionClasses).toBe(5)
    expect(Object.values(stage.sets).map(({ union }) => union)).toEqual([1 / 3, 0, undefined])
  })
})
