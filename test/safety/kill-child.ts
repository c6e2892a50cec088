// A program to be killed: says `ready` when it has loaded everything, then does the work that its argument (JSON) names.
import { type RunLearnOptions, runLearn } from '../../lib/continual/run-learn.js'
import { mergeFolder } from '../../lib/merge/merge-folder.js'
import { type FineTuneOptions, fineTune } from '../../lib/train/fine-tune.js'

export type KilledWork = { train: FineTuneOptions } | { merge: Parameters<typeof mergeFolder>[0] } | { learn: RunLearnOptions }

const work = JSON.parse(process.argv[2]) as KilledWork
process.stdout.write('ready\n')
const start = (): Promise<unknown> =>
  'train' in work ? fineTune(work.train) : 'merge' in work ? mergeFolder(work.merge) : runLearn(work.learn)
start().then(
  () => process.stdout.write('done\n'),
  (error) => {
    process.stderr.write(`${error.code} ${error.stack}\n`)
    process.exitCode = 1
  },
)
