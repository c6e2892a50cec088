import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, normalize, relative, sep } from 'node:path'

const root = join(__dirname, '..')
const files = (folder: string, pattern: RegExp) =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)))

/** Data flows one way (docs/architecture.md §2): a stage imports itself and stages to its left. */
const STAGES = [
  ['errors', 'checks', 'files', 'concat-arrays', 'version', 'addon', 'native', 'device', 'tensor', 'capture', 'ops'],
  ['formats'],
  ['data'],
  ['injection', 'nn', 'models'],
  ['methods', 'objectives', 'optim', 'statistics'],
  ['checkpoint'],
  ['merge', 'adapters'],
  ['train'],
  ['continual'],
  ['protocols', 'report'],
  ['cli', 'index', 'arguments', 'checked-api'],
]
const rank = (file: string) => {
  const stage = normalize(file).split(sep)[1].replace(/\.ts$/, '')
  const found = STAGES.findIndex((names) => names.includes(stage))
  if (found < 0) throw new Error(`${file}: expected a stage of the architecture, got ${stage}`)
  return found
}

/** The files of lib that each file of lib imports, types among them. */
const imports = new Map(
  files('lib', /\.ts$/).map((file) => {
    const targets = [...readFileSync(join(root, file), 'utf8').matchAll(/(?:from|import|import\() ?'(\.[^']+)\.js'/g)]
    return [file, targets.map(([, target]) => `${join(dirname(file), target)}.ts`)]
  }),
)

test('a stage imports only stages to its left', () => {
  const wrong = [...imports].flatMap(([file, targets]) =>
    targets.filter((target) => rank(target) > rank(file)).map((target) => `${file} -> ${target}`),
  )
  expect(wrong).toEqual([])
})

test('no file imports itself by way of others, not even for a type', () => {
  const done = new Set<string>()
  const circlesFrom = (file: string, path: readonly string[]): string[] => {
    if (path.includes(file)) return [[...path.slice(path.indexOf(file)), file].join(' -> ')]
    if (done.has(file)) return []
    const found = (imports.get(file) ?? []).flatMap((target) => circlesFrom(target, [...path, file]))
    done.add(file)
    return found
  }
  expect([...imports.keys()].flatMap((file) => circlesFrom(file, []))).toEqual([])
})

test('a file begins by saying what it is', () => {
  const silent = [...imports.keys()].filter((file) => !/^(#!.*\n)?(\/\/|\/\*\*)/.test(readFileSync(join(root, file), 'utf8')))
  expect(silent).toEqual([])
})

test('only native.ts loads the addon', () => {
  const loaders = files('lib', /\.ts$/).filter((file) => /= loadAddon\(/.test(readFileSync(join(root, file), 'utf8')))
  expect(loaders).toEqual([join('lib', 'native.ts')])
})

test('only files.ts asks the file system for promises: those of Node abort the process when a worker is terminated', () => {
  const wrong = files('lib', /\.ts$/).filter((file) =>
    /'node:fs\/promises'|\bpromises\b.*'node:fs'|\.promises\b/.test(readFileSync(join(root, file), 'utf8')),
  )
  expect(wrong).toEqual([])
})

test('tests draw what they try from a seed', () => {
  const wrong = files('test', /\.ts$/).filter((file) => /from 'fast-check'|Math\.random\(/.test(readFileSync(join(root, file), 'utf8')))
  expect(wrong).toEqual([join('test', 'architecture.test.ts'), join('test', 'fast-check.ts')])
})

test('no identifier in C++ names a model or a paper', () => {
  const wrong = files('native', /\.(cc|h)$/).filter((file) =>
    readFileSync(join(root, file), 'utf8')
      .replace(/\/\/.*$/gm, '')
      .match(/\b\w*(clip_model|vit|diki|r_adapter|dinov2)\w*\b/i),
  )
  expect(wrong).toEqual([])
})

test('files stay small and say what they define', () => {
  const sources = [...files('lib', /\.ts$/), ...files('native', /\.(cc|h)$/)]
  const limit = (file: string) => (file.includes(join('native', 'cpu')) ? 600 : 400)
  expect(sources.filter((file) => readFileSync(join(root, file), 'utf8').split('\n').length > limit(file))).toEqual([])
  expect(sources.filter((file) => /^(utils?|helpers?|common|misc|manager)\b/.test(basename(file)))).toEqual([])
})
