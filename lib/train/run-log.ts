/**
 * The log of a run: `events.jsonl`, one event a line with the time it came, and the same scalars for TensorBoard. A run that
 * is resumed cuts both at its checkpoint, so that they read as those of a run that was never stopped.
 */

import { join } from 'node:path'
import { CambiumError, isCambiumError, messageOf } from '../errors.js'
import { FileHandle, readFile } from '../files.js'
import { makeFolder, writeFileAtomic } from '../formats/atomic-file.js'
import { isJsonObject } from '../formats/json-fields.js'
import { encodeFileVersion, encodeScalars } from '../formats/tfevents.js'
import type { EvaluatedEvent, SkippedEvent, TrainEvent } from './events.js'

export const LOG_FILE = 'events.jsonl'
/** TensorBoard reads files with `tfevents` in the name. */
export const TENSORBOARD_FILE = 'events.out.tfevents.cambium'

/** `time`: seconds since 1970, to the millisecond. */
export type LoggedEvent = (TrainEvent | SkippedEvent | EvaluatedEvent) & { readonly time: number }

export class RunLog {
  #lines: FileHandle | undefined
  #scalars: FileHandle | undefined
  readonly #skipped = new Set<string>()
  #waiting: SkippedEvent[] = []

  /** Nothing is written before the start of the run is. */
  constructor(
    readonly folder: string,
    private readonly now: () => number = Date.now,
  ) {}

  /** Remembers an image left out, once; it is written with the next event. */
  skip(error: CambiumError): void {
    const image = String(error.details.image ?? 'unknown')
    if (this.#skipped.has(image)) return
    this.#skipped.add(image)
    this.#waiting.push({ type: 'skipped', image, reason: error.message.replace(`${image}: `, '') })
  }

  /** Appends an event. @throws E_IO, E_NO_SPACE */
  async write(event: TrainEvent | EvaluatedEvent): Promise<void> {
    if (event.type === 'start') await this.#open(event.from)
    const time = this.now() / 1000
    const events: LoggedEvent[] = [...this.#waiting, event].map((each) => ({ ...each, time }))
    this.#waiting = []
    try {
      await this.#lines?.write(Buffer.from(events.map(lineOf).join('')))
      await this.#scalars?.write(Buffer.concat(events.map(recordOf)))
      // A checkpoint that outlives a loss of power has the log that leads to it.
      if (event.type === 'checkpoint') await Promise.all([this.#lines?.sync(), this.#scalars?.sync()])
    } catch (error) {
      const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(String((error as { code?: unknown }).code))
      throw new CambiumError(full ? 'E_NO_SPACE' : 'E_IO', `${join(this.folder, LOG_FILE)}: ${messageOf(error)}`, { cause: error })
    }
  }

  async close(): Promise<void> {
    const handles = [this.#lines, this.#scalars]
    this.#lines = undefined
    this.#scalars = undefined
    for (const handle of handles) await handle?.close()
  }

  async #open(from: number): Promise<void> {
    await this.close()
    await makeFolder(this.folder)
    const kept = from === 0 ? [] : cutAt(await this.#before(), from)
    for (const event of kept) if (event.type === 'skipped') this.#skipped.add(event.image)
    const paths = [LOG_FILE, TENSORBOARD_FILE].map((name) => join(this.folder, name))
    const version = encodeFileVersion(kept[0]?.time ?? this.now() / 1000)
    await writeFileAtomic(paths[0], kept.map(lineOf).join(''))
    await writeFileAtomic(paths[1], Buffer.concat([version, ...kept.map(recordOf)]))
    this.#lines = await FileHandle.open(paths[0], 'a')
    this.#scalars = await FileHandle.open(paths[1], 'a')
  }

  /** A run begun without a log goes on with one. */
  async #before(): Promise<LoggedEvent[]> {
    try {
      return (await readRunLog(this.folder)).events
    } catch (error) {
      if (isCambiumError(error) && error.code === 'E_NOT_FOUND') return []
      throw error
    }
  }
}

/** What a run that goes on from a checkpoint keeps: all before the first step after it, and no evaluation. */
function cutAt(events: readonly LoggedEvent[], step: number): LoggedEvent[] {
  const end = events.findIndex((event) => event.type === 'step' && event.step > step)
  return events.slice(0, end < 0 ? undefined : end).filter(({ type }) => type !== 'evaluated')
}

const lineOf = (event: LoggedEvent): string => `${JSON.stringify(event)}\n`

function recordOf(event: LoggedEvent): Uint8Array {
  if (event.type === 'step') {
    const { time, step, loss, lr, gradientNorm, imagesPerSecond } = event
    const scalars = { loss, learning_rate: lr, gradient_norm: gradientNorm ?? Number.NaN, images_per_second: imagesPerSecond }
    return encodeScalars(time, step, Object.fromEntries(Object.entries(scalars).map(([name, value]) => [`train/${name}`, value])))
  }
  if (event.type !== 'evaluated') return new Uint8Array()
  const scores = Object.entries(event.scores).map(([set, score]) => [`score/${set}`, score])
  return encodeScalars(event.time, event.step, Object.fromEntries(scores))
}

const TYPES: ReadonlySet<unknown> = new Set(['start', 'step', 'checkpoint', 'plain', 'end', 'skipped', 'evaluated'])

/**
 * Reads a log as far as it can be read.
 * @returns the events, and how many lines were none (a process killed while it wrote leaves half a line)
 * @throws E_NOT_FOUND, E_IO
 */
export async function readRunLog(folder: string): Promise<{ events: LoggedEvent[]; broken: number }> {
  const path = join(folder, LOG_FILE)
  const text = await readFile(path, 'utf8').catch((error) => {
    const missing = (error as { code?: unknown }).code === 'ENOENT'
    throw new CambiumError(missing ? 'E_NOT_FOUND' : 'E_IO', `${path}: ${messageOf(error)}`, { cause: error })
  })
  const events: LoggedEvent[] = []
  let broken = 0
  for (const line of text.split('\n')) {
    if (line === '') continue
    const event = eventOf(line)
    if (event === undefined) broken++
    else events.push(event)
  }
  return { events, broken }
}

function eventOf(line: string): LoggedEvent | undefined {
  try {
    const value: unknown = JSON.parse(line)
    if (!isJsonObject(value) || !TYPES.has(value.type) || typeof value.time !== 'number') return undefined
    if (value.type === 'step' && !(typeof value.step === 'number' && typeof value.loss === 'number' && typeof value.lr === 'number'))
      return undefined
    return value as unknown as LoggedEvent
  } catch {
    return undefined
  }
}
