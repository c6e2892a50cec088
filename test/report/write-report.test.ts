import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeReport } from '../../lib/report/write-report.js'
import { temporaryFolder } from '../temporary-folder.js'
import { drawImages, IMAGES, type Sketch, writeRun } from './run-folder.js'

const folder = temporaryFolder()
const at = (...parts: string[]) => join(folder, ...parts)
const read = (...parts: string[]) => readFileSync(at(...parts), 'utf8')

async function reportOf(name: string, sketch: Sketch = {}, options: Parameters<typeof writeReport>[1] = {}): Promise<string> {
  writeRun(at(name), sketch)
  await writeReport(at(name), options)
  return read(name, 'report.html')
}

const text = (page: string) =>
  page
    .replace(/<style>[\s\S]*?<\/style>/g, '')
    .replace(/<[^>]+>/g, '')
    .replace(/\s+/g, ' ')

describe('the answer comes first', () => {
  test('with numbers, and words where a change is within its interval', async () => {
    const page = await reportOf('plain')
    expect(text(page)).toMatch(/Learned nothing measurable on photos, lost nothing measurable out of distribution/)
    expect(text(page)).toContain('did not change measurably: 33.3 % before, 66.7 % after (+33.3 ± 35.3 points)')
    const many = Array.from({ length: 10 }, () => IMAGES).flat()
    const sure = text(await reportOf('sure', { images: many }))
    expect(sure).toContain('Learned 33.3 points on photos, gained 33.3 points out of distribution')
    expect(sure).toContain('rose from 33.3 % to 66.7 % (+33.3 ± 11.2 points)')
    const lost = text(await reportOf('lost', { images: many.map(([label, before, after]) => [label, after, before]) }))
    expect(lost).toContain('Lost 33.3 points on photos, lost 33.3 points out of distribution')
  })

  test('α 0 is the model as it was', async () => {
    const sketch = { alpha: 0, images: IMAGES.map(([label, before]) => [label, before, before] as const) }
    expect(text(await reportOf('zero', sketch))).toContain('Left as it was: α is 0')
  })

  test('time, speed, memory, settings, environment', async () => {
    const page = text(await reportOf('facts', { settings: { 'method.drop': 0.2, augment: { scale: [0.9, 1] }, empty: null } }))
    for (const words of [
      '1 min 15 s',
      '40images a second',
      '200 MB',
      'a processor',
      'linux x64',
      'method.drop0.2',
      'augment{"scale":[0.9,1]}',
    ])
      expect(page.replaceAll('&quot;', '"')).toContain(words)
    expect(page).not.toContain('empty')
  })
})

describe('the page is one safe file', () => {
  const evil = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
  const hostile: Sketch = {
    classes: [`${evil}cat`, `dog'${evil}`, '{a|cow}{b}\u202e\u0000'],
    sets: [`set ${evil}`, '</title></style><svg onload=alert(3)>'],
    id: (index) => `${evil}/${index}.png`,
    method: evil,
    settings: { [evil]: evil, list: [evil] },
    images: [...IMAGES, ...IMAGES],
  }

  test('hostile names of classes, sets, files, methods and settings stay text', async () => {
    const page = await reportOf('hostile', hostile)
    const tags = [...page.matchAll(/<([a-z!/][^\s>]*)/gi)].map(([, tag]) => tag.toLowerCase())
    expect(tags.filter((tag) => /^(script|iframe|object|embed|link|base|form|input|foreignobject|a|use|image)$/.test(tag))).toEqual([])
    expect(tags.filter((tag) => tag === 'title' || tag === 'style')).toEqual(['title', 'style'])
    expect(page).not.toMatch(/<[^>"]*("[^"]*"[^>"]*)*\son\w+=/i)
    expect(page).not.toContain('\u0000')
    expect(page).toContain('&lt;script&gt;alert(2)&lt;/script&gt;')
  })

  test('no script, no address outside, and a policy that forbids both', async () => {
    const page = await reportOf('closed')
    await drawImages(at('closed'), 12)
    await writeReport(at('closed'))
    const drawn = read('closed', 'report.html')
    expect(drawn).toContain(`content="default-src 'none'; img-src data:; style-src 'unsafe-inline'`)
    for (const each of [page, drawn])
      expect(each.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(
        /https?:|<script|@import|url\((?!#)|src="(?!data:image\/jpeg;base64,)/,
      )
  })

  test('the same bytes for the same folder', async () => {
    const first = await reportOf('same', hostile)
    await reportOf('between')
    await writeReport(at('same'))
    expect(read('same', 'report.html')).toBe(first)
  })

  test('charts have a text, a table and ids of their own', async () => {
    const page = await reportOf('charts', { images: [...IMAGES, ...IMAGES] }, {})
    const charts = [...page.matchAll(/<div class="chart \w+" role="img" aria-label="([^"]+)">\s*<svg/g)]
    expect(charts.length).toBeGreaterThanOrEqual(6)
    expect(page.match(/<figure>/g)).toHaveLength(page.match(/<summary>The numbers<\/summary>/g)?.length ?? -1)
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const [, id] of page.matchAll(/url\(#([^)]+)\)/g)) expect(ids).toContain(id)
    expect(page).toMatch(/stroke="var\(--accent\)"/)
    const headings = [...page.matchAll(/<h([1-4])/g)].map(([, level]) => Number(level))
    expect(headings.filter((level) => level === 1)).toHaveLength(1)
    expect(headings.every((level, i) => i === 0 || level <= headings[i - 1] + 1)).toBe(true)
  })
})

describe('images gained and lost', () => {
  test('are small pictures with what they were taken for; those that are gone are named and counted', async () => {
    writeRun(at('images'))
    await drawImages(at('images'), 3)
    await writeReport(at('images'))
    const page = read('images', 'report.html')
    const pictures = [...page.matchAll(/<img src="data:image\/jpeg;base64,([^"]+)" width="96" height="96" alt="cat"/g)]
    expect(pictures).toHaveLength(4) // two of each set
    expect(Buffer.from(pictures[0][1], 'base64').subarray(0, 3).toString('hex')).toBe('ffd8ff')
    expect(text(page)).toContain('8 images could not be read again and are shown by name.')
    expect(text(page)).toMatch(/Gained: right now, wrong before 5 images.*catwas dog/)
    expect(text(page)).toMatch(/Lost: right before, wrong now 1 image .*cownow dog/)
    await writeReport(at('images'), { pictures: false })
    expect(read('images', 'report.html')).not.toContain('<img')
  })

  test('are few, from every class, and only files', async () => {
    const many = Array.from({ length: 60 }, (_, i) => [Math.floor(i / 20), Math.floor(i / 20 + 1) % 3, Math.floor(i / 20)] as const)
    writeRun(at('many'), { images: many })
    mkdirSync(at('many', '0.png'))
    await writeReport(at('many'))
    const page = text(read('many', 'report.html'))
    expect(page).toContain('Gained: right now, wrong before 60 images, 12 shown')
    expect(page.match(/cowwas cat/g)).toHaveLength(8)
  })
})

describe('runs beside it', () => {
  test('full fine-tuning and WiSE-FT become points and rows; another zero-shot is told', async () => {
    writeRun(at('full'), { method: 'full', alpha: 0.75 })
    const page = text(await reportOf('main', {}, { compare: [at('full')] }))
    expect(page).toContain('full fine-tuning, α 1')
    expect(page).toContain('WiSE-FT, α 0.75')
    expect(page).not.toContain('zero-shot scores are others')
    writeRun(at('stranger'), { method: 'full', images: IMAGES.slice(1) })
    writeRun(at('unlike'), { method: 'full', images: IMAGES.map(([label, before, after]) => [label, after, before]) })
    for (const other of ['stranger', 'unlike'])
      expect(text(await reportOf('main', {}, { compare: [at(other)] }))).toContain(`${other}: its zero-shot scores are others`)
  })

  test('baselines in its folder are found', async () => {
    writeRun(at('based', 'baselines', 'full'), { method: 'full', alpha: 1 })
    expect(text(await reportOf('based'))).toContain('WiSE-FT, α 0.5')
  })
})

describe('parts that are missing or broken', () => {
  const broken = async (name: string, damage: (run: string) => void) => {
    const run = writeRun(at(name))
    damage(run)
    const { problems } = await writeReport(run)
    const page = text(read(name, 'report.html'))
    for (const problem of problems) expect(page.replaceAll('&quot;', '"')).toContain(problem)
    return { problems, page }
  }

  test('a run that is not finished', async () => {
    const { problems, page } = await broken('unfinished', (run) => rmSync(join(run, 'report.json')))
    expect(problems).toEqual([expect.stringContaining('not finished')])
    expect(page).toContain('Not finished after 6 of 6 steps')
    expect(page).toContain('Learning rate')
  })

  test('no log', async () => {
    const { problems, page } = await broken('no-log', (run) => rmSync(join(run, 'events.jsonl')))
    expect(problems).toEqual(['no events.jsonl in the folder'])
    expect(page).toContain('No step is in the log.')
  })

  test('a log with noise and a gap', async () => {
    const { problems } = await broken('gap', (run) => {
      const path = join(run, 'events.jsonl')
      writeFileSync(path, readFileSync(path, 'utf8').replace(/.*"step":3,.*\n/, ''))
      appendFileSync(path, '{"type":"st')
    })
    expect(problems).toEqual(['events.jsonl: 1 line could not be read', 'events.jsonl: expected step 3, got step 4; the curves have a gap'])
  })

  test('predictions cut short', async () => {
    const { problems, page } = await broken('cut', (run) => appendFileSync(join(run, 'predictions.jsonl'), '["x",'))
    expect(problems).toEqual([expect.stringMatching(/^predictions\.jsonl, line 27: expected a set or an image/)])
    expect(page).not.toContain('Gained:')
  })

  test('a report that is no report, a state that is none', async () => {
    const { problems } = await broken('other', (run) => {
      writeFileSync(join(run, 'report.json'), '{"model":5}')
      writeFileSync(join(run, 'run.json'), '[')
    })
    expect(problems).toEqual([
      expect.stringContaining('not finished'),
      expect.stringMatching(/^report\.json: model: /),
      expect.stringMatching(/^run\.json: expected JSON/),
    ])
  })

  test('a folder that is no run is an error, as is one to compare with', async () => {
    mkdirSync(at('empty'))
    await expect(writeReport(at('empty'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
    await expect(writeReport(at('nowhere'))).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
    writeRun(at('alone'))
    await expect(writeReport(at('alone'), { compare: [at('empty')] })).rejects.toMatchObject({ code: 'E_NOT_FOUND' })
  })
})
