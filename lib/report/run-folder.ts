/**
 * What a run left in its folder, read for the report. Every part may be missing or broken: then it is left out and `problems`
 * says so, for the reader of the report to see.
 */

import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import { type RunState, readRunState } from '../checkpoint/run-state.js'
import { problemText } from '../checks/problems.js'
import { CambiumError, isCambiumError } from '../errors.js'
import { stat } from '../files.js'
import { readJsonObject } from '../formats/json-fields.js'
import type { StepEvent } from '../train/events.js'
import { type PredictedImage, type PredictedSet, readPredictions } from '../train/prediction-file.js'
import { LOG_FILE, type LoggedEvent, readRunLog } from '../train/run-log.js'

const number = z.number()
const classification = z.object({
  task: z.literal('classification'),
  count: number,
  top1: number,
  top5: number,
  meanPerClass: number,
  perClass: z.array(z.object({ name: z.string(), count: number, top1: number.nullable() })),
  skipped: number,
})
const ranks = z.object({ count: number, r1: number, r5: number, r10: number, median: number, mean: number })
const retrieval = z.object({
  task: z.literal('retrieval'),
  images: number,
  captions: number,
  imageToText: ranks,
  textToImage: ranks,
  skipped: number,
})
const reportSchema = z.object({
  model: z.string(),
  method: z.string(),
  dtype: z.string(),
  level: z.string(),
  threads: number,
  environment: z.record(z.string(), z.union([z.string(), number])).optional(),
  images: z.object({ train: number, validation: number }),
  trainable: number,
  estimatedBytes: number,
  steps: number,
  skipped: number,
  alpha: z.object({ value: number, by: z.string(), tried: z.array(z.object({ alpha: number, score: number })).optional() }).optional(),
  results: z.array(
    z.object({
      name: z.string(),
      alpha: number,
      evaluation: z.record(z.string(), z.discriminatedUnion('task', [classification, retrieval])),
    }),
  ),
  sets: z
    .record(z.string(), z.object({ role: z.enum(['validation', 'test', 'ood', 'captions']), images: number, classes: number }))
    .default({}),
  curve: z.array(z.object({ alpha: number, scores: z.record(z.string(), number) })).default([]),
  files: z.record(z.string(), z.string()),
})

/** report.json as far as the report needs it. */
export type RunReport = z.infer<typeof reportSchema>
export type SetEvaluation = RunReport['results'][number]['evaluation'][string]
export type Role = RunReport['sets'][string]['role']

export interface TrainingLog {
  readonly steps: readonly StepEvent[]
  /** Steps of the whole run. */
  readonly planned: number
  /** Seconds since 1970 of the first event. */
  readonly began: number
  /** Seconds of training, over all parts of a run that was stopped and resumed. */
  readonly seconds: number
  readonly parts: number
  readonly peakBytes: number
  readonly skipped: readonly { readonly image: string; readonly reason: string }[]
  readonly warnings: readonly string[]
}

export interface Run {
  readonly folder: string
  readonly name: string
  readonly report?: RunReport
  readonly state?: RunState
  readonly log?: TrainingLog
  readonly predictions: readonly (PredictedSet & { readonly images: readonly PredictedImage[] })[]
  readonly problems: readonly string[]
}

/**
 * Reads the folder of a run.
 * @param options.predictions also what was said of each image
 * @throws E_NOT_FOUND when the folder holds no part of a run; E_IO
 */
export async function readRun(folder: string, { predictions = true } = {}): Promise<Run> {
  const problems: string[] = []
  const report = await part(problems, () => readReport(folder))
  const state = await part(problems, () => readRunState(folder))
  const log = await part(problems, () => readLog(folder, problems))
  if (!report && !state && !log && problems.every((problem) => /^no /.test(problem)))
    throw new CambiumError('E_NOT_FOUND', `report: expected the folder of a run (report.json, run.json, ${LOG_FILE}), got ${folder}`)
  if (!report) problems.unshift('There is no report.json: the run is not finished, or was stopped before it was compared.')
  const images = report && predictions ? await part(problems, () => readPredictions(folder)) : undefined
  return {
    folder,
    name: basename(resolve(folder)),
    ...(report ? { report } : {}),
    ...(state ? { state } : {}),
    ...(log ? { log } : {}),
    predictions: images ?? [],
    problems: problems.map((problem) => problem.replaceAll(`${folder}/`, '').replace(/\s+/g, ' ')),
  }
}

/** A part that is broken is a problem; one that is missing says so too. */
async function part<T>(problems: string[], read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (!isCambiumError(error)) throw error
    problems.push(error.code === 'E_NOT_FOUND' ? `no ${/(\w+\.jsonl?)\b/.exec(error.message)?.[1] ?? 'file'} in the folder` : error.message)
    return undefined
  }
}

async function readReport(folder: string): Promise<RunReport | undefined> {
  const raw = await readJsonObject(join(folder, 'report.json'))
  if (raw === undefined) return undefined
  const parsed = reportSchema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw new CambiumError('E_DATA', `report.json: ${problemText(reportSchema, parsed.error, raw)}`)
}

async function readLog(folder: string, problems: string[]): Promise<TrainingLog> {
  const { events, broken } = await readRunLog(folder)
  if (broken > 0) problems.push(`${LOG_FILE}: ${broken} ${broken === 1 ? 'line' : 'lines'} could not be read`)
  const steps = events.filter((event) => event.type === 'step')
  const gap = steps.findIndex(({ step }, i) => step !== i + 1)
  if (gap >= 0) problems.push(`${LOG_FILE}: expected step ${gap + 1}, got step ${steps[gap].step}; the curves have a gap`)
  const starts = events.filter((event) => event.type === 'start')
  const ends = events.filter((event) => event.type === 'end')
  return {
    steps,
    planned: starts.at(-1)?.steps ?? steps.at(-1)?.steps ?? 0,
    began: events[0]?.time ?? 0,
    seconds: secondsOf(events),
    parts: starts.length,
    peakBytes: Math.max(0, ...ends.map(({ peakBytes }) => peakBytes)),
    skipped: events.filter((event) => event.type === 'skipped'),
    warnings: starts.flatMap(({ warning }) => warning ?? []),
  }
}

/** An end tells its seconds; a part that was killed lasted to its last step. */
function secondsOf(events: readonly LoggedEvent[]): number {
  let seconds = 0
  let [began, last] = [0, 0]
  for (const event of events) {
    if (event.type === 'start') {
      seconds += last - began
      began = last = event.time
    } else if (event.type === 'step') last = event.time
    else if (event.type === 'end') {
      seconds += event.seconds
      began = last = 0
    }
  }
  return seconds + last - began
}

/** Runs of methods to compare with that `cambium train --baselines` left in the run's own folder. */
export async function baselinesOf(folder: string): Promise<string[]> {
  const found: string[] = []
  for (const method of ['full', 'flyp']) {
    const path = join(folder, 'baselines', method)
    if (
      await stat(join(path, 'report.json')).then(
        () => true,
        () => false,
      )
    )
      found.push(path)
  }
  return found
}
