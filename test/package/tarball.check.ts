/**
 * The package as a user gets it: packed, looked through, and installed into an empty folder without scripts and without a
 * compiler, cmake or Python in reach. `npm run test:package`; needs the npm registry for the dependencies, and a built tree.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { compareVersions, requiredGlibc } from '../../lib/addon/elf-versions.js'
import { temporaryFolder } from '../temporary-folder.js'
import { tinyClip, tinyImages } from '../tiny-clip.js'

const root = join(__dirname, '../..')
const folder = temporaryFolder()
const app = join(folder, 'app')
const bin = join(folder, 'bin')
const packed: { filename: string; size: number; files: { path: string; size: number }[] } = { filename: '', size: 0, files: [] }

/** Node, npm and a shell are all there is. */
const env = {
  PATH: bin,
  HOME: folder,
  CC: '/nothing/cc',
  CXX: '/nothing/c++',
  PYTHON: '/nothing/python',
  npm_config_cache: process.env.npm_config_cache ?? join(process.env.HOME ?? folder, '.npm'),
  npm_config_registry: execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).trim(),
  npm_config_fetch_retries: '5', // of a registry that is slow to answer
  npm_config_update_notifier: 'false',
}

function run(command: string, args: readonly string[], cwd = app): string {
  const { status, stdout, stderr } = spawnSync(join(bin, command), args, { cwd, env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit code ${status}\n${stdout}\n${stderr}`)
  return stdout
}

function link(name: string, target: string | undefined): void {
  if (target !== undefined && existsSync(target)) symlinkSync(realpathSync(target), join(bin, name))
}

beforeAll(() => {
  execFileSync(process.execPath, ['scripts/build.mjs', '--no-native'], { cwd: root, stdio: 'pipe' })
  execFileSync(process.execPath, ['scripts/prebuild.mjs'], { cwd: root, stdio: 'pipe' })
  const out = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], { cwd: root, encoding: 'utf8' })
  Object.assign(packed, JSON.parse(out)[0])
  mkdirSync(bin)
  mkdirSync(app)
  const which = (name: string) =>
    (process.env.PATH ?? '')
      .split(':')
      .map((place) => join(place, name))
      .find(existsSync)
  link('node', process.execPath)
  for (const name of ['npm', 'npx']) link(name, which(name))
  for (const name of ['sh', 'env', 'uname']) link(name, which(name))
  writeFileSync(join(app, 'package.json'), '{ "name": "app", "version": "1.0.0", "private": true }\n')
})

const tarball = () => join(folder, packed.filename)
const installed = join(app, 'node_modules/cambium')

describe('what is in it', () => {
  const paths = () => packed.files.map(({ path }) => path)
  const cores = () => paths().filter((path) => path.endsWith('.node'))

  test('the library, the prebuilt core, its sources and licences; nothing else', () => {
    expect(paths()).toEqual(
      expect.arrayContaining(['dist/index.js', 'dist/index.mjs', 'dist/index.d.ts', 'dist/cli/main.js', 'LICENSE', 'NOTICE', 'README.md']),
    )
    expect(cores()).toContain(`prebuilds/${process.platform}-${process.arch}/cambium.glibc.node`)
    const shipped = ['linux-arm64/cambium.glibc', 'linux-x64/cambium.glibc']
    expect(cores().filter((path) => !shipped.some((name) => path === `prebuilds/${name}.node`))).toEqual([])
    const known =
      /^(dist\/|native\/(addon|core|cpu|cuda|io|linalg|ops)\/|prebuilds\/|CMakeLists\.txt$|scripts\/(build-native|build-cuda|cuda-report)\.mjs$|package\.json$|LICENSE$|NOTICE$|README\.md$)/
    expect(paths().filter((path) => !known.test(path))).toEqual([])
    expect(paths().filter((path) => /binding\.gyp|\.test\.|fixtures|cuda\/emulation|\.map$/.test(path))).toEqual([])
  })

  test('sharp is required and not imported: its other half has import attributes, which Node 20.9 cannot read', () => {
    const scripts = paths().filter((path) => /^dist\/.*\.m?js$/.test(path))
    expect(scripts.filter((path) => /(from|import\() ?['"]sharp/.test(readFileSync(join(root, path), 'utf8')))).toEqual([])
  })

  test('no script runs at installation', () => {
    const { scripts, gypfile } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([])
    expect(gypfile).toBe(false)
  })

  test('it stays small', () => {
    expect(packed.size).toBeLessThan(2e6 * (1 + cores().length))
    for (const { path, size } of packed.files) expect(`${path} ${size > 8e6 ? size : 'is small'}`).toBe(`${path} is small`)
  })

  test('types and entry points: publint and are-the-types-wrong', () => {
    execFileSync(process.execPath, [join(root, 'node_modules/publint/src/cli.js'), tarball(), '--strict'], { stdio: 'pipe' })
    execFileSync(process.execPath, [join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js'), tarball()], {
      stdio: 'pipe',
    })
  })
})

describe('installed without scripts and without a compiler', () => {
  beforeAll(async () => {
    run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', tarball()])
    tinyClip(join(folder, 'clip'))
    await tinyImages(join(folder, 'photos'), ['red'], 1)
  })

  const classified = `{ const clip = await Clip.load(${JSON.stringify(join(folder, 'clip'))}, { dtype: 'f32' }); \
    const [{ label }] = await classify(clip, [${JSON.stringify(join(folder, 'photos/red/0.png'))}], ['red']); console.log(label) }`

  test('ESM and CommonJS are one library', () => {
    writeFileSync(
      join(app, 'both.mjs'),
      `import { createRequire } from 'node:module'; import { Clip, classify, Tensor } from 'cambium';
      const required = createRequire(import.meta.url)('cambium');
      if (required.Tensor !== Tensor) throw new Error('two copies'); ${classified}`,
    )
    expect(run('node', ['both.mjs'])).toBe('red\n')
    writeFileSync(join(app, 'one.cjs'), `const { Clip, classify } = require('cambium'); (async () => ${classified})()`)
    expect(run('node', ['one.cjs'])).toBe('red\n')
  })

  test('in workers, which may end before their parent', () => {
    writeFileSync(
      join(app, 'workers.mjs'),
      `import { Worker } from 'node:worker_threads'; import { Clip, classify } from 'cambium';
      const work = new URL('./work.mjs', import.meta.url);
      const ends = Array.from({ length: 3 }, () => new Promise((resolve) => new Worker(work).on('exit', resolve)));
      const codes = await Promise.all(ends); if (codes.some(Boolean)) throw new Error(String(codes)); ${classified}`,
    )
    writeFileSync(join(app, 'work.mjs'), `import { Clip, classify } from 'cambium'; ${classified}`)
    expect(run('node', ['workers.mjs'])).toBe('red\n'.repeat(4))
  })

  test('npx cambium doctor uses the prebuilt core', () => {
    const { ok, core } = JSON.parse(run('npx', ['cambium', 'doctor', '--json']))
    expect(ok).toBe(true)
    expect(core.path).toBe(join(realpathSync(installed), `prebuilds/${process.platform}-${process.arch}/cambium.glibc.node`))
    expect(compareVersions(requiredGlibc(readFileSync(core.path))!, '2.28')).toBeLessThanOrEqual(0)
    const labels = run('npx', ['cambium', 'classify', '--model', join(folder, 'clip'), '--labels', 'red,blue', join(folder, 'photos')])
    expect(JSON.parse(labels).top).toHaveLength(2)
  })

  test('a report draws its charts without echarts installed', () => {
    expect(existsSync(join(app, 'node_modules/echarts'))).toBe(false)
    run('node', ['-e', "require('./node_modules/cambium/dist/report/echarts.js')"])
  })

  test('TypeScript finds the types either way', () => {
    writeFileSync(join(app, 'a.mts'), "import { Clip } from 'cambium'\nexport const load: (folder: string) => Promise<Clip> = Clip.load\n")
    writeFileSync(
      join(app, 'b.cts'),
      "import cambium = require('cambium')\nexport const code: string = new cambium.CambiumError('E', 'm').code\n",
    )
    const flags = [
      '--noEmit',
      '--strict',
      '--exactOptionalPropertyTypes',
      '--module',
      'node16',
      '--target',
      'es2022',
      '--lib',
      'es2023,esnext.disposable',
      '--types',
      'node',
    ]
    const types = ['--typeRoots', join(root, 'node_modules/@types')]
    run('node', [join(root, 'node_modules/typescript/bin/tsc'), ...flags, ...types, 'a.mts', 'b.cts'])
  })

  test('again after npm ci', () => {
    const old = join(installed, 'of-the-first-installation')
    writeFileSync(old, '')
    run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'])
    expect(existsSync(old)).toBe(false)
    expect(run('npx', ['cambium', 'doctor'])).toMatch(/Everything is in order/)
  })

  test('without its decoder of images it says so, and no image is called broken', () => {
    const decoder = join(app, `node_modules/@img/sharp-${process.platform}-${process.arch}`)
    execFileSync('mv', [decoder, join(folder, 'decoder')])
    writeFileSync(
      join(app, 'code.cjs'),
      `const { Clip, classify } = require('cambium'); (async () => ${classified})().catch(({ code }) => console.log(code))`,
    )
    expect(run('node', ['code.cjs'])).toBe('E_DECODER\n')
    execFileSync('mv', [join(folder, 'decoder'), decoder])
  })

  test('without its core it says what was tried and how to mend it', () => {
    const core = join(installed, `prebuilds/${process.platform}-${process.arch}`)
    execFileSync('mv', [core, `${core}-away`])
    const { status, stderr } = spawnSync(join(bin, 'node'), ['-e', "require('cambium')"], { cwd: app, env, encoding: 'utf8' })
    expect(status).toBe(1)
    expect(stderr).toContain(
      `tried ${join(realpathSync(dirname(core)), `${process.platform}-${process.arch}`, 'cambium.glibc.node')}: no such file`,
    )
    expect(stderr).toContain('to mend it: npx cambium build')
  })
})
