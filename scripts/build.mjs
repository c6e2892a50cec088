// The whole build: native core, TypeScript (CommonJS, where the state lives) and a thin ESM face over it.
import { spawnSync } from 'node:child_process'
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)
const run = (script, args = []) => {
  const { status } = spawnSync(process.execPath, [script, ...args], { stdio: 'inherit', cwd: root })
  if (status !== 0) process.exit(status ?? 1)
}

if (!process.argv.includes('--no-native')) run(join(root, 'scripts/build-native.mjs'))
rmSync(join(root, 'dist'), { recursive: true, force: true })
run(require.resolve('typescript/bin/tsc'), ['-p', join(root, 'tsconfig.json')])
run(join(root, 'scripts/bundle-charts.mjs'))
chmodSync(join(root, 'dist/cli/main.js'), 0o755)
// One copy of the code: import and require share the same module instance, so handles can cross between them.
const names = Object.keys(require(join(root, 'dist/checked-api.js')))
writeFileSync(
  join(root, 'dist/index.mjs'),
  `import cambium from './checked-api.js'\nexport const {\n  ${names.join(',\n  ')}\n} = cambium\n`,
)
writeFileSync(join(root, 'dist/index.d.mts'), "export * from './index.js'\n")
