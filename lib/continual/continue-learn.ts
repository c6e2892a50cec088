/**
 * A run that takes more tasks another day, without the earlier data: what the method keeps is in the run's folder. Earlier test sets are
 * looked at again where their files still are; else their columns end.
 */

import { CambiumError } from '../errors.js'
import { Clip } from '../models/clip.js'
import type { LearnReport } from './learn-report.js'
import { dtypeOf, imageSizeOf, type LearnState, readLearnState, runFolders } from './learn-state.js'
import { type RunSettings, runWith } from './run-learn.js'
import type { StreamSpec } from './task-spec.js'
import { checkStream, openTasks, openTest, openWatched, type StreamTask, type TaskStream, type WatchedSet } from './tasks.js'

/** More tasks for a run of `learn`, as paths. */
export interface ContinueLearnOptions extends RunSettings {
  /** folder of a run, or of several as `runLearn` writes them */
  out: string
  /** the tasks that come now; those that the run has learned are passed over. Its protocol is the run's. */
  stream: StreamSpec
  /** folder of the pretrained CLIP, when it is no longer where it was */
  model?: string
}

/**
 * Goes on with one run, or with all of a folder, learning the tasks that each has not learned.
 * @returns the reports of the runs; undefined when it was stopped (the same call goes on)
 * @throws E_NOT_FOUND for a folder without a run, E_BASE for another model, E_RUN for another protocol, what opening and training throw
 */
export async function continueLearn(options: ContinueLearnOptions): Promise<LearnReport[] | undefined> {
  const folders = await runFolders(options.out)
  if (folders.length === 0) throw new CambiumError('E_NOT_FOUND', `${options.out}: expected a run of learn, got none`)
  const reports: LearnReport[] = []
  for (const [i, folder] of folders.entries()) {
    const saved = (await readLearnState(folder)) as LearnState
    const { label, method, options: settings, seed } = saved
    options.onEvent?.({ type: 'run', run: i + 1, runs: folders.length, label, seed, settings })
    const stream = await continuedStream(saved, options)
    const { dtype = dtypeOf(saved), imageSize = imageSizeOf(saved) } = options
    const clip = await Clip.load(options.model ?? saved.model, { dtype, imageSize })
    try {
      const report = await runWith(clip, options, { stream, label, method, settings, seed, out: folder })
      if (!report) return undefined
      reports.push(report)
    } finally {
      clip.dispose()
    }
  }
  return reports
}

/** The tasks of a saved run, with their test sets as far as they are still there, then those that it has not learned. */
async function continuedStream(saved: LearnState, { stream, skipBroken }: ContinueLearnOptions): Promise<TaskStream> {
  const { seed, protocol } = saved
  if (stream.protocol !== undefined && stream.protocol !== protocol)
    throw new CambiumError('E_RUN', `protocol: expected that of the run (${protocol}), got ${stream.protocol}`)
  const opened = await openTasks({ ...stream, protocol }, { seed, skipBroken })
  const known = new Map(opened.tasks.map((task) => [task.name, task]))
  const before: StreamTask[] = []
  for (const { name, digest, classNames, templates, spec } of saved.tasks) {
    const classes = { classNames, templates }
    const listed = known.get(name)
    if (listed && listed.digest !== digest)
      throw new CambiumError('E_RUN', `${name}: expected the images that were learned under this name, got others`)
    const images = saved.stages.findLast((stage) => stage.sets[name])?.sets[name].images
    const test = listed ? listed.test : spec && (await openTest(spec, classes, { skipBroken, images }))
    before.push({ ...listed, name, digest, classes, spec, test })
  }
  const learned = new Set(saved.tasks.map(({ name }) => name))
  const tasks = [...before, ...opened.tasks.filter(({ name }) => !learned.has(name))]
  const whole = { protocol, tasks, watch: [...(await watchedBefore(saved, opened)), ...opened.watch] }
  checkStream(whole)
  return whole
}

async function watchedBefore({ watch }: LearnState, opened: TaskStream): Promise<WatchedSet[]> {
  const missing = watch.filter(({ name }) => opened.watch.every((set) => set.name !== name))
  const found = await Promise.all(missing.map((spec) => openWatched(spec).catch(() => undefined)))
  return found.filter((set) => set !== undefined)
}
