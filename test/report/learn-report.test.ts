import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LearnReport } from '../../lib/continual/learn-report.js'
import { drawSvg } from '../../lib/report/echarts.js'
import { stageChart } from '../../lib/report/learn-curves.js'
import { readLearnRuns } from '../../lib/report/learn-folder.js'
import { clearlyBest, methodsOf, setsOf, spreadOf } from '../../lib/report/learn-methods.js'
import { learnPage, writeLearnReport } from '../../lib/report/learn-report-page.js'
import { histograms, weightChart } from '../../lib/report/learn-selection.js'
import { program } from '../cli/command.js'
import { temporaryFolder } from '../temporary-folder.js'
import { type LearnSketch, learnRun, learnRuns } from './learn-runs.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)

const text = (page: string) =>
  page
    .replace(/<style>[\s\S]*?<\/style>/g, '')
    .replace(/<[^>]+>/g, ' ')
    .replace(/\s+/g, ' ')
const pageOf = (...sketches: LearnSketch[]) => learnPage('runs', sketches.map(learnRun))
const section = (page: string, id: string) => page.slice(page.indexOf(`<section id="${id}"`)).split('</section>')[0]
/** The cells of the rows of a table, its n-th in a piece of a page. */
const cells = (piece: string, n = 0) =>
  [
    ...piece
      .split('<table')
      [n + 1].split('</table>')[0]
      .matchAll(/<tr[^>]*>([\s\S]*?)<\/tr>/g),
  ].map(([, row]) => [...row.matchAll(/<t[hd][^>]*>([\s\S]*?)<\/t[hd]>/g)].map(([, cell]) => text(cell).trim()))

test('the answer comes first: what was learned, what was kept', () => {
  const page = text(learnPage('runs', learnRuns()))
  expect(page).toContain('DIKI : gained 44.9 points on 3 tasks, lost 0.3 points of what it knew before')
  expect(page).toContain('sequential : 75.1 ± 0.1 % on the tasks at the end (+40.0 from zero-shot) and 20.1 ± 0.1 % on tin (−30.0).')
  expect(text(pageOf({ label: 'mine', loss: 0 }))).toContain('mine : gained 45.0 points on 3 tasks, lost nothing of what it knew before')
  expect(text(pageOf({ done: 1 }))).toContain('DIKI : 1 of 3 tasks so far')
  expect(text(pageOf({ done: 1, seed: 4 }, { label: 'other' }))).toContain(
    'Runs that are not finished DIKI , seed 4: 1 tasks learned Learned',
  )
  expect(page).not.toContain('not finished')
  const methods = [
    { label: 'none', method: 'zero-shot' },
    { label: 'all', method: 'joint' },
    { label: 'mine', method: 'lwf' },
  ]
  expect(text(pageOf(...methods))).toContain('mine : gained')
})

describe('a run that was continued', () => {
  /** Sets of a stage without one of them. */
  const without = (run: LearnReport, missing: string, stages: readonly number[]): LearnReport => ({
    ...run,
    stages: run.stages.map((stage, s) => {
      const { [missing]: _, ...sets } = stage.sets
      return stages.includes(s) ? { ...stage, sets } : stage
    }),
  })
  const run = learnRun({ learned: 0.8 }) // pretrained: 0.3, 0.35 and 0.4

  test('compares what was gained on the same sets before and after', () => {
    const page = (missing: string, stages: readonly number[]) => text(learnPage('x', [without(run, missing, stages)]))
    expect(page('textures', [0, 1, 2])).toContain('gained 47.5 points on 2 of 3 tasks')
    expect(page('textures', [0, 1, 2])).toContain('80.0 % on the tasks at the end (+47.5 from zero-shot)')
    expect(page('digits', [3])).toContain('gained 42.5 points on 2 of 3 tasks')
    expect(page('textures', [1, 2])).toContain('gained 45.0 points on 3 tasks')
  })

  test('says which sets its means are not over', () => {
    const scores = text(section(learnPage('x', [without(run, 'textures', [1, 2])]), 'scores'))
    expect(scores).toContain('and textures , which came with a later day. Avg is without textures , which some stages did not look at.')
  })
})

describe('measures', () => {
  const page = learnPage('runs', learnRuns())
  const rows = cells(section(page, 'scores'))

  test('are those of the metrics, mean and deviation over seeds', () => {
    expect(rows[0]).toEqual(['Method', 'Transfer', 'Avg', 'Last', 'Knew before', 'Forgetting', 'Backward', 'Forward'])
    // Transfer of sequential: 0.35 − 0.1 for the second set; 0.4 − 0.1 and 0.4 − 0.2 for the third.
    expect(rows[2]).toEqual([
      'sequential',
      '25.1 ± 0.1',
      '60.7 ± 0.1',
      '75.1 ± 0.1',
      '20.1 ± 0.1',
      '+15.0 ± 0.0',
      '−15.0 ± 0.0',
      '−15.0 ± 0.0',
    ])
    expect(cells(section(page, 'scores'), 1)[2].slice(0, 4)).toEqual(['sequential', '15.1 ± 0.1', '50.7 ± 0.1', '65.1 ± 0.1'])
  })

  test('are bold where one is ahead by more than the spread over seeds, joint training apart', () => {
    const bold = [...section(page, 'scores').matchAll(/<strong>(.*?)<\/strong>/g)].map(([, value]) => text(value).trim())
    // Transfer differs by 12.4 points from sequential's, the end by 4.9; zero-shot learns nothing and is no rival.
    expect(bold).toEqual([
      '37.5 ± 0.1',
      '66.1 ± 0.1',
      '80.0 ± 0.1',
      '49.8 ± 0.1',
      '+0.2 ± 0.0',
      '−0.2 ± 0.0',
      '−0.2 ± 0.0',
      ...['27.5 ± 0.1', '56.1 ± 0.1', '70.0 ± 0.1', '+0.2 ± 0.0', '−0.2 ± 0.0', '−0.2 ± 0.0'],
    ])
    const spread = (mean: number, sd: number) => ({ mean, sd, count: 3 })
    expect(clearlyBest([spread(0.5, 0.01), spread(0.53, 0.01)])).toBe(1)
    expect(clearlyBest([spread(0.5, 0.01), spread(0.52, 0.011)])).toBeUndefined()
    expect(clearlyBest([spread(0.1, 0.01), spread(0.3, 0.01), undefined], -1)).toBe(0)
    expect(clearlyBest([{ mean: 0.1, count: 1 }, spread(0.3, 0.01)])).toBeUndefined()
    const seeds = [0, 1, 2]
    const runs = [
      { method: 'joint', learned: 0.95 },
      { method: 'diki', learned: 0.9 },
      { method: 'prefix', learned: 0.5 },
    ]
    const joint = learnPage(
      'x',
      runs.flatMap((sketch) => seeds.map((seed) => learnRun({ ...sketch, label: sketch.method, seed }))),
    )
    const [, bound, diki] = section(joint, 'scores').split('<tr>').slice(1)
    expect(bound).toContain('upper bound')
    expect(bound).not.toContain('<strong>')
    expect(diki).toContain('<strong>90.1<small>± 0.1</small></strong>')
  })

  test('Transfer leaves out sets on which the pretrained model guesses, and says so', () => {
    const guessing = learnRun({})
    const stages = guessing.stages.map((stage) => ({ ...stage, sets: { ...stage.sets, signs: { ...stage.sets.signs, own: 0.12 } } }))
    const page = learnPage('x', [{ ...guessing, stages }])
    expect(text(page)).toContain('Transfer counts every set but the first and signs , where the pretrained model is not above chance')
    expect(cells(section(page, 'scores'))[1][1]).toBe('40.0')
  })

  test('of a sample of seeds', () => {
    expect(spreadOf([1, 2, 3, undefined])).toEqual({ mean: 2, sd: 1, count: 3 })
    expect(spreadOf([4])).toEqual({ mean: 4, count: 1 })
    expect(spreadOf([undefined, Number.NaN])).toBeUndefined()
  })
})

describe('maps', () => {
  test('a row for each stage; what is not learned yet is marked, and what just was', () => {
    const map = section(pageOf({ loss: 0.1 }), 'maps')
    expect(cells(map)).toEqual([
      ['', 'digits', 'signs', 'textures', 'tin'],
      ['pretrained', '30.0', '35.0', '40.0', '50.0'],
      ['digits', '80.0', '25.0', '30.0', '40.0'],
      ['signs', '70.0', '80.0', '20.0', '30.0'],
      ['textures', '60.0', '70.0', '80.0', '20.0'],
    ])
    const classes = [...map.matchAll(/<td class="(\w+)( own| before)?( gap)?"/g)].map(([, heat, mark = '']) => heat + mark)
    expect(classes.slice(4)).toEqual([
      ...['hot own', 'cold before', 'cold before', 'cold'],
      ...['hot', 'hot own', 'cold before', 'cold'],
      ...['hot', 'hot', 'hot own', 'cold'],
    ])
    expect(map).toContain('--heat:1.00') // 50 points on the first set
    expect(map).toContain('signs: 25.0 %, −10.0 points from the pretrained model')
  })

  test('one scale for all methods', () => {
    const page = pageOf({ label: 'a', learned: 0.4 }, { label: 'b', learned: 0.9 })
    expect(section(page, 'maps')).toContain('full colour is 60 points')
  })
})

describe('selection', () => {
  const runs = learnRuns()
  const [, , diki] = methodsOf(runs)

  test('weights of learned, later and watched sets, over stages and seeds', () => {
    const bins = histograms(diki, setsOf([diki]))
    expect([bins.learned[18], bins.before[1], bins.watched[1]]).toEqual([3 * 6 * 200, 3 * 3 * 200, 3 * 3 * 200])
    const page = section(learnPage('runs', runs), 'selection')
    expect(text(page)).toMatch(/sets learned mean 0\.93 .*sets not learned yet mean 0\.07 .*sets never learned mean 0\.07/)
  })

  test('tasks that were chosen at the end, set by set', () => {
    const page = section(learnPage('runs', runs), 'selection')
    const map = page.slice(page.indexOf('class="heat"') - 20)
    expect(cells(map)).toEqual([
      ['', 'digits', 'signs', 'textures'],
      ['digits', '100', '', ''],
      ['signs', '', '100', ''],
      ['textures', '', '', '100'],
      ['tin', '', '', '100'],
    ])
  })

  test('is told of methods that select alone', () => {
    expect(pageOf({ method: 'sequential', selects: false })).not.toContain('id="selection"')
  })
})

describe('whatever there is', () => {
  test('one stage, one set, no watched set, sets that are missing, seeds with their own classes', () => {
    for (const runs of [
      [learnRun({ done: 0 })],
      [learnRun({ tasks: ['one'], watched: [] })],
      [learnRun({ done: 1 }), learnRun({ label: 'other' })],
      [withoutFirstSet(learnRun({}))],
      [
        learnRun({ tasks: ['a', 'b'], protocol: 'class-incremental' }),
        learnRun({ tasks: ['b', 'a'], seed: 1, protocol: 'class-incremental' }),
      ],
    ]) {
      const page = learnPage('x', runs)
      expect(text(page)).not.toMatch(/NaN|undefined|Infinity/)
      expect(page).not.toMatch(/="[^"]*NaN/)
    }
    expect(setsOf(methodsOf([learnRun({ tasks: ['a', 'b'] }), learnRun({ tasks: ['b', 'a'], seed: 1 })])).map(({ name }) => name)).toEqual([
      'task 1',
      'task 2',
      'tin',
    ])
    for (const option of [stageChart([], 1), stageChart([{ place: 9, values: [undefined, 0.5] }], 2, 1), weightChart([])])
      expect(drawSvg(option, 340, 170)).not.toMatch(/NaN|Infinity/)
  })

  test('what was tried on validation is told, the best of it strong', () => {
    const tried = [
      { settings: { lr: 1 }, validation: 0.5 },
      { settings: { lr: 5 }, validation: 0.625 },
    ]
    const facts = section(pageOf({ settings: { lr: 5, tried } }), 'facts')
    expect(cells(facts)).toEqual([
      ['setting', 'value'],
      ['lr', '5'],
    ])
    expect(cells(facts, 1)).toEqual([
      ['settings', 'accuracy %'],
      ['{&quot;lr&quot;:1}', '50.0'],
      ['{&quot;lr&quot;:5}', '62.5'],
    ])
    expect(facts.split('<tr class="strong">')[1]).toContain('62.5')
    expect(pageOf({ settings: { tried: [null, 3, { validation: 'x' }] } })).not.toContain('Tried on')
  })

  test('hostile names stay text, and nothing outside is asked for', () => {
    const evil = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
    const sketch = { label: evil, tasks: [evil, `two ${evil}`], watched: [`</style>${evil}`], settings: { [evil]: [evil] } }
    const page = learnPage(evil, [learnRun({ ...sketch, method: evil, selects: true })])
    const tags = [...page.matchAll(/<([a-z!/][^\s>]*)/gi)].map(([, tag]) => tag.toLowerCase())
    expect(tags.filter((tag) => /^(script|iframe|object|embed|link|base|form|input|foreignobject|a|use|image|img)$/.test(tag))).toEqual([])
    expect(tags.filter((tag) => tag === 'title' || tag === 'style')).toEqual(['title', 'style'])
    expect(page.replace(/xmlns="[^"]*"/g, '')).not.toMatch(/https?:/)
    expect(page).toContain("default-src 'none'")
  })

  test('the same bytes for the same runs', () => {
    expect(learnPage('x', learnRuns())).toBe(learnPage('x', learnRuns()))
  })
})

/** As a run that was continued without the files of its first task. */
function withoutFirstSet(run: LearnReport): LearnReport {
  const stages = run.stages.map((stage, i) => {
    const { digits: _, ...sets } = stage.sets
    return i < 2 ? stage : { ...stage, sets }
  })
  return { ...run, stages }
}

describe('cambium report', () => {
  const write = (run: LearnReport, ...parts: string[]) => {
    mkdirSync(at(...parts), { recursive: true })
    writeFileSync(at(...parts, 'learn.json'), JSON.stringify(run))
  }

  test('knows a run over tasks, of one method or of several with seeds', async () => {
    write(learnRun({}), 'one')
    expect(await program(['report', at('one')])).toMatchObject({ code: 0, out: `report: ${at('one', 'report.html')}\n`, err: '' })
    expect(readFileSync(at('one', 'report.html'), 'utf8')).toBe(learnPage('one', [learnRun({})]))
    for (const run of learnRuns()) write(run, 'several', run.label, `seed-${run.seed}`)
    write(learnRun({ label: 'tried' }), 'several', 'DIKI', 'tried-0') // what validation did not choose is no run
    const told = await program(['report', at('several'), '--json', '--out', at('several.html')])
    expect(JSON.parse(told.out)).toEqual({ file: at('several.html') })
    const runs = await readLearnRuns(at('several'))
    expect(runs?.map(({ label, seed }) => `${label} ${seed}`).sort()).toEqual(
      learnRuns()
        .map(({ label, seed }) => `${label} ${seed}`)
        .sort(),
    )
    expect(await readLearnRuns(at('nowhere'))).toBeUndefined()
  })

  test('says what is wrong with a file, and that such runs are not compared', async () => {
    write({ ...learnRun({}), stages: [{ after: -1, sets: { digits: { own: 'much' } } }] } as unknown as LearnReport, 'wrong')
    expect(await program(['report', at('wrong')])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/stages\.0\.sets\.digits\.own.*\(E_DATA\)/),
    })
    writeFileSync(at('wrong', 'learn.json'), '{')
    expect(await program(['report', at('wrong')])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/learn\.json: expected JSON.*\(E_DATA\)/),
    })
    write(learnRun({}), 'one')
    expect(await program(['report', at('one'), '--compare', 'x'])).toMatchObject({ code: 2, err: expect.stringContaining('--compare') })
    await expect(writeLearnReport(folder, [])).rejects.toMatchObject({ code: 'E_OPTION' })
  })
})
