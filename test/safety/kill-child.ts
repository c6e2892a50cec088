// A program to be killed: says `ready` when it has loaded everything, then does the work that its argument (JSON) names.
import { mergeFolder } from '../../lib/merge/merge-folder.js'
import { type FineTuneOptions, fineTune } from '../../lib/train/fine-tune.js'

export type KilledWork = { train: FineTuneOptions } | { merge: Parameters<typeof mergeFolder>[0] }

const work = JSON.parse(process.argv[2]) as KilledWork
process.stdout.write('ready\n')
const done = 'train' in work ? fineTune(work.train) : mergeFolder(work.merge)
done.then(
  () => process.stdout.write('done\n'),
  (error) => {
    process.stderr.write(`${error.code} ${error.stack}\n`)
    process.exitCode = 1
  },
)
