import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../temporary-folder.js'

// The protocol by which speeds are compared (bench/interleave.mjs), with workers whose times are given.
const folder = temporaryFolder()
const worker = join(folder, 'worker.mjs')
writeFileSync(
  worker,
  `import { createInterface } from 'node:readline'
  const seconds = process.argv.slice(2).map(Number)
  console.log(JSON.stringify({ ready: true, of: seconds.length }))
  let turn = 0
  for await (const line of createInterface({ input: process.stdin })) {
    const second = seconds[Math.min(turn++, seconds.length - 1)]
    console.log(JSON.stringify({ seconds: Array(Number(line.split(' ')[1])).fill(second), loss: 1, rss_peak_mb: 10 * turn }))
  }`,
)

function interleave(...args: string[]) {
  const { status, stderr } = spawnSync(
    process.execPath,
    [join(__dirname, '../../bench/interleave.mjs'), 'made-up', '--out', folder, ...args],
    {
      encoding: 'utf8',
      timeout: 50000,
      killSignal: 'SIGKILL',
    },
  )
  return { status, stderr }
}
const answering = (label: string, ...seconds: number[]) => `${label}=node ${worker} ${seconds.join(' ')}`

test('a ratio is the time of a later worker over that of the first in the same round', () => {
  // Two turns of warming up that agree, then three rounds.
  expect(interleave('--rounds', '3', '--steps', '2', answering('a', 1, 1, 1, 2, 4), answering('b', 2, 2, 2, 3, 4)).status).toBe(0)
  const { workers, ratios } = JSON.parse(readFileSync(join(folder, 'made-up.json'), 'utf8'))
  expect(ratios).toEqual([{ of: 'b', to: 'a', median: 1.5, min: 1, max: 2, perRound: [2, 1.5, 1] }])
  expect(workers[0]).toMatchObject({ about: { ready: true, of: 5 }, seconds: { median: 2, min: 1, max: 4 }, rssPeakMb: 50 })
})

test('the best of the others is of another side than the first', () => {
  const workers = [answering('a', 4), answering('a, slow', 1), answering('b', 8), answering('c', 6)]
  expect(interleave('--rounds', '1', '--steps', '1', ...workers).status).toBe(0)
  const { ratios } = JSON.parse(readFileSync(join(folder, 'made-up.json'), 'utf8')) as { ratios: { of: string; median: number }[] }
  expect(ratios.map(({ of, median }) => [of, median])).toEqual([
    ['a, slow', 0.25],
    ['b', 2],
    ['c', 1.5],
    ['best of the others', 1.5],
  ])
})

test('a worker that never answers is named and ended, with what it started', () => {
  // While anything that holds the worker's output lives, the run would not end.
  const { status, stderr } = interleave('--limit', '1', "silent=sh -c 'echo no compiler >&2; sleep 300'; true", answering('a', 1))
  expect(status).toBe(1)
  expect(stderr).toContain('silent: expected an answer within 1 s, got none')
})

test('a worker that ends is named with what it said', () => {
  const { status, stderr } = interleave('broken=echo no such model >&2; exit 3', answering('a', 1))
  expect(status).toBe(1)
  expect(stderr).toBe('broken: exited with 3\nno such model\n\n')
})

test('a result that is no number is told as such; a line that is no JSON ends the run', () => {
  const saying = (label: string, answer: string) => `${label}=while read line; do echo '${answer}'; done`
  const nan = '{"seconds": [1], "loss": "nan", "rss_peak_mb": 1}'
  expect(interleave('--rounds', '1', '--steps', '1', answering('a', 1), saying('b', nan)).status).toBe(0)
  expect(readFileSync(join(folder, 'made-up.md'), 'utf8')).toContain('| b | 1.000 (1.000–1.000) | – | 1 | NaN |')
  const { status, stderr } = interleave(answering('a', 1), saying('b', '{"seconds": [1], "loss": NaN}'))
  expect(status).toBe(1)
  expect(stderr).toContain('b: expected a line of JSON, got {"seconds": [1], "loss": NaN}')
})
