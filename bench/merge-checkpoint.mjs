/**
 * Times `cambium merge` against `cp -r` and an fsync of each file, of the same checkpoint on the same disk, in turns; peak
 * memory is VmHWM of the process. With --peer also PEFT's merge_and_unload (bench/peers/merge.py).
 *
 *   node bench/merge-checkpoint.mjs --model DIR --adapter DIR --scratch DIR [--rounds 5] [--cold] [--peer 'PYTHON bench/peers/merge.py']
 *
 * Warm: the source is read once before each timed command. Cold: the page cache is dropped before each (needs the right to
 * write /proc/sys/vm/drop_caches).
 */
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'

const { values: args } = parseArgs({
  options: {
    model: { type: 'string' },
    adapter: { type: 'string' },
    scratch: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    cold: { type: 'boolean', default: false },
    peer: { type: 'string' },
    merge: { type: 'string', default: '' },
  },
})
const out = join(args.scratch, 'merged')
const cli = join(import.meta.dirname, '../dist/cli/main.js')
const commands = {
  cp: ['sh', '-c', `cp -r "${args.model}" "${out}" && sync "${out}"/*`],
  cambium: [
    process.execPath,
    cli,
    'merge',
    '--model',
    args.model,
    '--adapter',
    args.adapter,
    '--out',
    out,
    '--quiet',
    ...args.merge.split(' ').filter(Boolean),
  ],
}
if (args.peer) commands.peft = [...args.peer.split(' '), args.model, args.adapter, out]

function prepare() {
  rmSync(out, { recursive: true, force: true })
  spawnSync('sync')
  if (args.cold) writeFileSync('/proc/sys/vm/drop_caches', '3')
  else for (const name of readdirSync(args.model)) spawnSync('sh', ['-c', `cat "${join(args.model, name)}" > /dev/null`])
}

/** Seconds and peak resident megabytes of a command. */
function run([program, ...rest]) {
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const child = spawn(program, rest, { stdio: ['ignore', 'ignore', 'inherit'] })
    let peak = 0
    const look = setInterval(() => {
      try {
        peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0))
      } catch {} // it has ended
    }, 20)
    child.on('close', (code) => {
      clearInterval(look)
      if (code === 0) resolve({ seconds: (performance.now() - began) / 1000, megabytes: peak / 1024 })
      else reject(new Error(`${program}: exit ${code}`))
    })
  })
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]
const seen = Object.fromEntries(Object.keys(commands).map((name) => [name, []]))
for (let round = 0; round < Number(args.rounds); round++) {
  for (const [name, command] of Object.entries(commands)) {
    prepare()
    seen[name].push(await run(command))
  }
  const line = Object.entries(seen).map(
    ([name, runs]) => `${name} ${runs[round].seconds.toFixed(2)} s ${runs[round].megabytes.toFixed(0)} MB`,
  )
  process.stderr.write(`round ${round + 1}: ${line.join(' · ')}\n`)
}
rmSync(out, { recursive: true, force: true })
const result = Object.fromEntries(
  Object.entries(seen).map(([name, runs]) => [
    name,
    {
      seconds: median(runs.map(({ seconds }) => seconds)),
      ratio: median(runs.map(({ seconds }, i) => seconds / seen.cp[i].seconds)),
      megabytes: Math.max(...runs.map(({ megabytes }) => megabytes)),
    },
  ]),
)
process.stdout.write(`${JSON.stringify({ cache: args.cold ? 'cold' : 'warm', rounds: Number(args.rounds), result })}\n`)
