import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

// Programs beside the library take names from the built files, which no compiler checks.
const root = join(__dirname, '../..')
const programs = ['bench', 'demo', 'examples', 'scripts'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.mjs'))
    .map((name) => join(folder, name)),
)

test('every name that a program takes from the built library is exported there', () => {
  let names = 0
  const missing = programs.flatMap((program) => {
    const taken = readFileSync(join(root, program), 'utf8').matchAll(
      /\{([^{}]*)\} (?:= (?:require|createRequire\(.*?\))\(|from )'(.*?\/dist\/.*?)\.m?js'/g,
    )
    return [...taken].flatMap(([, list, path]) => {
      const source = normalize(join(dirname(program), path)).replace(/^dist/, 'lib')
      const exported = require(join(root, source)) as Record<string, unknown>
      const wanted = list.split(',').map((name) => name.split(':')[0].trim())
      names += wanted.length
      return wanted.filter((name) => name !== '' && !(name in exported)).map((name) => `${program}: ${name} of ${source}`)
    })
  })
  expect(missing).toEqual([])
  expect(names).toBeGreaterThan(100)
})
