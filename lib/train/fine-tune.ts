/**
 * Fine-tuning from paths to a report, as the command line does it: open the model and the sets, refuse what cannot fit, train,
 * and conclude. Test and out-of-distribution sets choose nothing.
 */
import { join } from 'node:path'
import { writeFileAtomic } from '../formats/atomic-file.js'
import { holdFolder } from '../formats/hold-folder.js'
import { Clip } from '../models/clip.js'
import { native } from '../native.js'
import { concludeFineTune } from './conclude-fine-tune.js'
import { environment } from './environment.js'
import type { TrainingEstimate } from './estimate.js'
import type { EndEvent, TrainEvent } from './events.js'
import { type FineTuneData, openFineTuneData, setsOf } from './fine-tune-data.js'
import { createMethod, methodDefaults, type TrainedMethod } from './fine-tune-method.js'
import type { FineTuneOptions, FineTuneReport } from './fine-tune-options.js'
import { planRun, refuseOverwrite } from './plan.js'
import { RunLog } from './run-log.js'
import { Trainer } from './train.js'

export type { FineTuneEvent, FineTuneOptions, FineTuneReport } from './fine-tune-options.js'

/**
 * Trains, and when training is done chooses α, saves and compares. Stopped by its signal in training, it leaves a run that can be
 * resumed and returns a report that is not `done`.
 * @throws E_MEMORY, E_OUT for a folder that holds another run or that another process writes, E_DATA and the errors of files; the
 * signal's reason when aborted after training
 */
export async function fineTune(given: FineTuneOptions): Promise<FineTuneReport> {
  await refuseOverwrite(given.out, given.resume ?? false)
  const { budget } = native.memory()
  const { dtype, imageSize, activationCheckpointing } = given
  const clip = await Clip.load(given.model, { dtype, imageSize, checkpoint: activationCheckpointing ? 'blocks' : 'none' })
  try {
    const data = await openFineTuneData(given)
    const options = { ...given, batch: given.batch ?? defaultBatch(data.train.length, given.accumulate) }
    const { estimate, seconds } = await planRun(clip, data, { ...methodDefaults(options), ...options })
    options.onEvent?.({ type: 'plan', images: data.train.length, validation: data.validation?.data.length ?? 0, estimate, seconds })
    const trained = await createMethod(clip, { ...options, epsilon: options.epsilon ?? (data.train.labelled ? undefined : 0) })
    try {
      const release = await holdFolder(options.out)
      return await run(clip, data, trained, options, estimate).finally(release)
    } finally {
      trained.dispose()
    }
  } finally {
    clip.dispose()
    native.setMemoryBudget(budget)
  }
}

/** 64, or what a small set has; cut so that it has `accumulate` equal parts. */
function defaultBatch(images: number, accumulate = 1): number {
  const most = Math.min(64, images)
  return most - (most % accumulate) || most
}

async function run(
  clip: Clip,
  data: FineTuneData,
  trained: TrainedMethod,
  options: FineTuneOptions & { readonly batch: number },
  estimate: TrainingEstimate,
): Promise<FineTuneReport> {
  const log = new RunLog(options.out)
  const trainer = createTrainer(clip, data, trained, options, log)
  try {
    const end = await train(trainer, options, log)
    const { level, threads } = native.backendInfo()
    const report: FineTuneReport = {
      model: options.model,
      method: options.method,
      dtype: clip.dtype,
      level,
      threads,
      environment: environment(),
      images: { train: data.train.length, validation: data.validation?.data.length ?? 0 },
      trainable: estimate.trainable,
      seconds: end.seconds,
      peakBytes: end.peakBytes,
      estimatedBytes: estimate.memory.total,
      done: end.reason === 'done',
      steps: end.step,
      skipped: end.skipped,
      results: [],
      sets: Object.fromEntries(
        setsOf(data).map(({ name, role, data: { length, classNames } }) => [name, { role, images: length, classes: classNames.length }]),
      ),
      curve: [],
      files: {},
    }
    if (!report.done) return report
    const finished = { ...report, ...(await concludeFineTune({ clip, data, method: trained.method, trainer, options, log })) }
    await writeFileAtomic(join(options.out, 'report.json'), `${JSON.stringify(finished, null, 2)}\n`)
    options.onEvent?.({ type: 'saved', what: 'report', folder: join(options.out, 'report.json') })
    return finished
  } finally {
    trainer.dispose()
    await log.close()
  }
}

function createTrainer(
  clip: Clip,
  data: FineTuneData,
  { method, objective }: TrainedMethod,
  options: FineTuneOptions & { readonly batch: number },
  log: RunLog,
): Trainer {
  const defaults = methodDefaults(options)
  const { epochs = 10, lr = defaults.lr, weightDecay = defaults.weightDecay, ema = defaults.ema, dedupe, cut, out } = options
  const { batch, accumulate, warmup, minLr, clipNorm, seed, skipBroken, exif, checkpointEvery } = options
  return new Trainer(clip, {
    method,
    objective,
    data: data.train,
    epochs,
    batch,
    accumulate,
    lr,
    warmup,
    minLr,
    weightDecay,
    clipNorm,
    ema,
    seed,
    skipBroken,
    exif,
    checkpointEvery,
    text: { dedupe, cut },
    out,
    onSkip: (error) => log.skip(error),
  })
}

async function train(trainer: Trainer, { signal, resume, onEvent }: FineTuneOptions, log: RunLog): Promise<EndEvent & { skipped: number }> {
  let last: TrainEvent | undefined
  let skipped = 0
  for await (const event of trainer.run({ signal, resume })) {
    await log.write(event)
    onEvent?.(event)
    if (event.type === 'step') skipped = event.skipped
    last = event
  }
  return { ...(last as EndEvent), skipped } // an end is the last event of every run that did not throw
}
