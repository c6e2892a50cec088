import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import ts from 'typescript'
import { program } from './cli/command.js'

// What README.md and docs/ say that can be wrong without anybody seeing it: links, names of files and scripts, flags, and code.
const root = join(__dirname, '..')
const pages = ['README.md', 'bench/README.md', 'demo/model/README.md', ...markdown('docs'), ...markdown('bench/results')]

function markdown(folder: string): string[] {
  return readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`)
}
const read = (page: string) => readFileSync(join(root, page), 'utf8')
const withoutCode = (text: string) => text.replace(/```.*?```/gs, '')
const codeOf = (page: string, ...languages: string[]) =>
  [...read(page).matchAll(/```(\w+)\n(.*?)```/gs)].filter(([, language]) => languages.includes(language)).map(([, , code]) => code)

/** As GitHub names the headings of a page. */
function anchors(page: string): Set<string> {
  const headings = [...withoutCode(read(page)).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading)
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}_ -]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

const wrongIn = (find: (page: string) => string[]) => pages.flatMap((page) => find(page).map((what) => `${page}: ${what}`))

test('links, and the files that are named, are there', () => {
  const wrong = wrongIn((page) => {
    const text = withoutCode(read(page))
    const dead = [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link]) => {
      const [path, anchor] = link.split('#')
      const target = path === '' ? page : normalize(join(dirname(page), path))
      const found = /^https?:/.test(link) || (existsSync(join(root, target)) && (anchor === undefined || anchors(target).has(anchor)))
      return found ? [] : [link]
    })
    const named = text.matchAll(/(?<![\w/.-])(?:lib|native|bench|docs|test|scripts|examples|demo)\/[\w./-]+\.\w+/g)
    return [...dead, ...[...named].map(([path]) => path).filter((path) => !existsSync(join(root, path)))]
  })
  expect(wrong).toEqual([])
})

test('the programs and scripts that are called are there', () => {
  const scripts = JSON.parse(read('package.json')).scripts as Record<string, string>
  const wrong = wrongIn((page) => {
    const run = [...read(page).matchAll(/npm run ([\w:-]+)/g)].filter(([, name]) => scripts[name] === undefined)
    const called = [...read(page).matchAll(/(?:node|python3?) ((?:\w+\/)+[\w.-]+\.(?:mjs|py))/g)]
    return [...run, ...called.filter(([, path]) => !existsSync(join(root, path)))].map(([call]) => call)
  })
  expect(wrong).toEqual([])
})

test('every command has the flags that it is given', async () => {
  const wrong: string[] = []
  const flagsOf = new Map<string, Set<string>>()
  let calls = 0
  for (const page of pages) {
    const lines = codeOf(page, 'sh', 'console').join('\n').replaceAll('\\\n', ' ').split('\n')
    const inline = [...withoutCode(read(page)).matchAll(/`((?:npx )?cambium [^`]+)`/g)].map(([, call]) => call)
    for (const line of [...lines, ...inline]) {
      const [, command, rest] = /(?:^|npx |[$|] ?)cambium (\w+)(.*)/.exec(line.replace(/ # .*/, '')) ?? []
      if (command === undefined) continue
      const help = async () => (await program([command, '--help'])).out
      const flags = flagsOf.get(command) ?? new Set((await help()).match(/--[a-z][a-z-]*/g))
      flagsOf.set(command, flags)
      calls++
      for (const [flag] of rest.matchAll(/(?<=\s)--[a-z][a-z-]*/g)) if (!flags.has(flag)) wrong.push(`${page}: ${command} ${flag}`)
      if (!flags.has('--help')) wrong.push(`${page}: ${command}`)
    }
  }
  expect(wrong).toEqual([])
  expect(calls).toBeGreaterThan(30)
})

/** What stands in the samples for things of the reader's. */
const READERS = ['bar', 'data', 'database', 'images', 'pixels', 'reports', 'signal', 'store', 'tokens']

test('the samples of code are typed as the package says', () => {
  // Those of a page follow each other, as one program.
  const texts = new Map(
    pages.flatMap((page) => {
      const code = codeOf(page, 'ts', 'js')
      return code.length === 0 ? [] : [[join(root, `${page.replaceAll('/', '-')}.ts`), `${code.join('\n')}\nexport {}\n`] as const]
    }),
  )
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'],
    typeRoots: [join(root, 'node_modules/@types')],
    noEmit: true,
    skipLibCheck: true,
    paths: { cambium: [join(root, 'dist/index.d.ts')] },
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.getSourceFile = (name, ...rest) => {
    const text = texts.get(name)
    return text === undefined ? getSourceFile(name, ...rest) : ts.createSourceFile(name, text, ts.ScriptTarget.ES2022)
  }
  host.fileExists = (name) => texts.has(name) || fileExists(name)
  const wrong = ts.getPreEmitDiagnostics(ts.createProgram([...texts.keys()], options, host)).flatMap((found) => {
    const { file, start = 0, length = 0, messageText } = found
    const word = file?.text.slice(start, start + length) ?? ''
    const isReaders = [2304, 2552, 18004].includes(found.code) && READERS.includes(word)
    return isReaders ? [] : [`${file && basename(file.fileName)}: ${word}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`]
  })
  expect(wrong).toEqual([])
  expect(texts.size).toBeGreaterThan(5)
})
