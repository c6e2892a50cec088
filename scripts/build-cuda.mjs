// Compiles the CUDA backend into build/Release/libcambium_cuda.so with nvcc; neither `npm run build` nor the demo needs it.
//   npm run build:cuda                  for the GPU at hand (nvidia-smi), else sm_90a
//   npm run build:cuda -- --all         for every architecture from 8.0 that this nvcc knows, and PTX for later ones
//   npm run build:cuda -- --arch 86,90a
//   npm run build:cuda -- --emulated    instead: the same sources as C++ for an emulated device (tests, no nvcc needed)
// What ptxas says of every kernel goes to build/cuda-report.txt: registers, spills, shared memory.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { summarise } from './cuda-report.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const asked = process.argv.slice(2)
/** With the features of the very chip where kernels could use them (90a); nvcc knows which of these it can make. */
const ARCHITECTURES = ['80', '86', '89', '90a', '100', '120']

function stop(message) {
  process.stderr.write(`build:cuda: ${message}\n`)
  process.exit(1)
}

function output(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? stdout : undefined
}

function run(command, args) {
  const { status } = spawnSync(command, args, { stdio: 'inherit', cwd: root })
  if (status !== 0) process.exit(status ?? 1)
}

function emulated() {
  const folder = join('build', 'cuda-emulated')
  run('cmake', ['-S', '.', '-B', folder, '-DCMAKE_BUILD_TYPE=Release', '-DCAMBIUM_CUDA_EMULATED=ON'])
  run('cmake', ['--build', folder, '--target', 'emulated', '-j', String(availableParallelism())])
}

function findNvcc() {
  const places = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda']
    .filter(Boolean)
    .map((folder) => join(folder, 'bin', 'nvcc'))
  const found = ['nvcc', ...places].find((path) => output(path, ['--version']))
  return found ?? stop('expected nvcc (on the PATH, in CUDA_HOME or in /usr/local/cuda), got none. The CPU needs none of this.')
}

function architectures(nvcc) {
  const known = output(nvcc, ['--list-gpu-code']) ?? ''
  const knows = (arch) => known.includes(`sm_${arch.replace(/\D+$/, '')}`)
  if (asked.includes('--all')) return ARCHITECTURES.filter(knows)
  const at = asked.indexOf('--arch')
  if (at >= 0) return asked[at + 1].split(',')
  const here = output('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader'])?.split('\n')[0].trim().replace('.', '')
  const wanted = here === '90' || !here ? '90a' : here
  if (!knows(wanted)) stop(`expected an nvcc that knows sm_${wanted}, got one that knows ${known.trim().split(/\s+/).join(' ')}`)
  return [wanted]
}

/** One -gencode each; the last also as PTX, which later GPUs compile when they load it. PTX with an `a` runs on no later one. */
function targets(list) {
  const codes = list.map((arch) => `-gencode=arch=compute_${arch},code=sm_${arch}`)
  const last = list.at(-1)
  return /\D$/.test(last) ? codes : [...codes, `-gencode=arch=compute_${last},code=compute_${last}`]
}

const newest = (paths) => Math.max(0, ...paths.map((path) => statSync(path).mtimeMs))

async function compile(nvcc, flags) {
  const folder = join(root, 'build', 'cuda')
  mkdirSync(folder, { recursive: true })
  const at = (...parts) => join(root, 'native', ...parts)
  const all = (name) => readdirSync(at(name)).map((file) => at(name, file))
  const headers = newest([...all('cuda'), ...all('ops')].filter((path) => path.endsWith('.h')))
  const before = join(folder, 'flags.txt')
  const same = existsSync(before) && readFileSync(before, 'utf8') === flags.join('\n')
  const sources = all('cuda').filter((path) => /\.(cu|cc)$/.test(path))
  const objects = sources.map((path) => join(folder, `${path.split('/').pop()}.o`))
  const stale = sources
    .map((source, i) => ({ source, object: objects[i] }))
    .filter(({ source, object }) => !same || !existsSync(object) || statSync(object).mtimeMs < Math.max(headers, statSync(source).mtimeMs))
  const one = ({ source, object }) =>
    new Promise((resolve) => {
      const child = spawn(nvcc, [...flags, '-Xptxas', '-v', '-c', source, '-o', object])
      let text = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (text += part))
      child.on('close', (status) => {
        writeFileSync(`${object}.txt`, text)
        if (status !== 0) stop(`${source}\n${text}`)
        process.stdout.write(`${source.slice(root.length + 1)}\n`)
        resolve()
      })
    })
  const waiting = [...stale]
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await one(next)
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  writeFileSync(before, flags.join('\n'))
  const report = objects.map((object) => `# ${object.split('/').pop().replace(/\.o$/, '')}\n${readFileSync(`${object}.txt`, 'utf8')}`)
  writeFileSync(join(root, 'build', 'cuda-report.txt'), report.join('\n'))
  return objects
}

if (asked.includes('--emulated')) {
  emulated()
} else {
  const nvcc = findNvcc()
  const list = architectures(nvcc)
  const flags = [
    '-std=c++17',
    '-O3',
    '-lineinfo',
    '-Xcompiler',
    '-fPIC,-fvisibility=hidden,-Wall',
    `-I${join(root, 'native')}`,
    ...targets(list),
  ]
  const objects = await compile(nvcc, flags)
  const library = join(root, 'build', 'Release', 'libcambium_cuda.so')
  mkdirSync(dirname(library), { recursive: true })
  run(nvcc, [
    '-shared',
    '-cudart',
    'static',
    ...targets(list),
    ...objects,
    '-o',
    library,
    '-Xlinker',
    '-Bsymbolic',
    '-Xlinker',
    '--exclude-libs=ALL',
    '-ldl',
  ])
  process.stdout.write(
    `${library.slice(root.length + 1)}: ${(statSync(library).size / 1e6).toFixed(1)} MB for ${list.map((a) => `sm_${a}`).join(' ')}\n`,
  )
  process.stdout.write(summarise(readFileSync(join(root, 'build', 'cuda-report.txt'), 'utf8')))
}
