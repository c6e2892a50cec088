/**
 * Runs `cambium learn` for every method of tasks.yaml, in lanes: first all methods with the first seed (which chooses the
 * settings on validation), then the other seeds. What is finished is kept, so it can be stopped and started again.
 *
 *   node bench/real/continual/run.mjs MODEL DATA OUT [--lanes 2] [--seeds 0,1,2] [--methods a,b] [--threads 1]
 *
 * DATA is what prepare.mjs wrote. OUT/METHOD/seed-S/learn.json are the results (table.mjs makes tables of them), OUT/METHOD.log
 * what the command said.
 */
import { spawn } from 'node:child_process'
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const {
  values: args,
  positionals: [model, data, out],
} = parseArgs({
  allowPositionals: true,
  options: {
    lanes: { type: 'string', default: '2' },
    seeds: { type: 'string', default: '0,1,2' },
    methods: { type: 'string' },
    threads: { type: 'string', default: '1' },
  },
})
const here = (path) => fileURLToPath(new URL(path, import.meta.url))
const config = here('tasks.yaml')
const { parse } = createRequire(import.meta.url)('yaml')
const methods = args.methods?.split(',') ?? Object.keys(parse(readFileSync(config, 'utf8')).methods)
mkdirSync(out, { recursive: true })

function learn(method, seeds) {
  const log = createWriteStream(join(out, `${method}.log`), { flags: 'a' })
  const command = [here('../../../dist/cli/main.js'), 'learn', '--config', config, '--model', resolve(model), '--out', resolve(out)]
  const child = spawn(process.execPath, [...command, '--methods', method, '--seeds', seeds, '--threads', args.threads], { cwd: data })
  child.stdout.pipe(log)
  child.stderr.pipe(log)
  const began = Date.now()
  return new Promise((done) => {
    child.on('exit', (code) => {
      process.stderr.write(
        `${method}, seeds ${seeds}: ${code === 0 ? 'done' : `ended with ${code}`} after ${Math.round((Date.now() - began) / 1000)} s\n`,
      )
      done()
    })
  })
}

const queue = [args.seeds.split(',')[0], args.seeds]
  .filter((seeds, i, all) => all.indexOf(seeds) === i)
  .flatMap((seeds) => methods.map((method) => [method, seeds]))
const busy = new Set()

/** A method's runs share a folder: never two of them at once. */
async function lane() {
  for (;;) {
    const at = queue.findIndex(([method]) => !busy.has(method))
    if (at < 0) return
    const [[method, seeds]] = queue.splice(at, 1)
    busy.add(method)
    await learn(method, seeds)
    busy.delete(method)
  }
}

await Promise.all(Array.from({ length: Number(args.lanes) }, lane))
