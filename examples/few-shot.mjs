/**
 * The few-shot protocol of R-Adapter (Kim et al., ECCV 2024) and CoOp (Zhou et al. 2022): k images of each class train, three
 * seeds, settings chosen on other images of the training set, the whole test set looked at once.
 *
 *   node examples/few-shot.mjs MODEL TRAIN TEST OUT
 */
import process from 'node:process'
import { runProtocol } from 'cambium'

const [model, train, test, out] = process.argv.slice(2)
if (!out) {
  process.stderr.write('usage: node examples/few-shot.mjs MODEL TRAIN TEST OUT\n')
  process.exit(2)
}

const report = await runProtocol({
  protocol: 'few-shot',
  model,
  out,
  datasets: [{ name: 'mine', train, test }],
  shots: [1, 4, 16],
  methods: [
    { name: 'R-Adapter, rank 4', method: 'r-adapter', rank: 4, rates: [5e-4, 2e-3] },
    { name: 'full fine-tuning', method: 'full', rates: [1e-5, 1e-4] },
  ],
  onEvent: (event) => event.type === 'cell' && process.stderr.write(`${event.cell}/${event.cells} ${event.method}: ${event.task}\n`),
})
for (const { title, rows } of report.tables) {
  process.stdout.write(`${title}\n`)
  for (const row of rows) process.stdout.write(`${row.join('\t')}\n`)
}
