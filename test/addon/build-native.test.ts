/** `npx cambium build` of sources that do not compile, in a package that has a core already. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../temporary-folder.js'

const root = join(__dirname, '../..')
const folder = temporaryFolder()
const core = join(folder, 'build/Release/cambium.node')
const put = (path: string, text: string) => writeFileSync(join(folder, path), text)
const build = () => spawnSync(process.execPath, [join(folder, 'scripts/build-native.mjs')], { encoding: 'utf8' })

beforeAll(() => {
  mkdirSync(join(folder, 'scripts'))
  mkdirSync(join(folder, 'build/Release'), { recursive: true })
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'))
  copyFileSync(join(root, 'scripts/build-native.mjs'), join(folder, 'scripts/build-native.mjs'))
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  put('build/Release/cambium.node', 'an earlier build')
})

test('a build that fails leaves the core of an earlier one', () => {
  put('CMakeLists.txt', 'cmake_minimum_required(VERSION 3.18)\nproject(broken LANGUAGES NONE)\nadd_custom_target(all_of_it ALL false)\n')
  expect(build().status).toBe(1)
  expect(readFileSync(core, 'utf8')).toBe('an earlier build')
})

test('what cmake noted in another folder or image is forgotten', () => {
  put('CMakeLists.txt', 'cmake_minimum_required(VERSION 3.18)\nproject(whole LANGUAGES NONE)\n')
  const cache = readFileSync(join(folder, 'build/CMakeCache.txt'), 'utf8')
  put('build/CMakeCache.txt', cache.replaceAll(folder, '/another/place'))
  const { status, stdout, stderr } = build()
  expect(`${status} ${status === 0 ? '' : stdout + stderr}`).toBe('0 ')
  expect(readFileSync(join(folder, 'build/CMakeCache.txt'), 'utf8')).toContain(folder)
  expect(existsSync(core)).toBe(true)
})
