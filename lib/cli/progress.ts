/**
 * What a person sees while a command works: bars on a terminal, on stderr so that stdout carries results alone; nothing when
 * piped, with --quiet, or in a dumb terminal.
 */
import process from 'node:process'
import { Presets, SingleBar } from 'cli-progress'

export interface Progress {
  /** Shows how far a task is; another `task` starts another bar. */
  show(task: string, done: number, total: number, note?: string): void
  /** A line that stays. */
  say(line: string): void
  /** Ends the bar. */
  stop(): void
}

const SILENT: Progress = { show: () => {}, say: () => {}, stop: () => {} }

export function createProgress(quiet: boolean, stream: NodeJS.WriteStream = process.stderr): Progress {
  if (quiet || stream.isTTY !== true || process.env.TERM === 'dumb') return SILENT
  return new Bars(stream)
}

/** A bar goes when its task is done; what takes one update is not drawn at all. */
class Bars implements Progress {
  #bar: SingleBar | undefined
  #task = ''
  #began = 0
  #first = 0

  constructor(private readonly stream: NodeJS.WriteStream) {}

  show(task: string, done: number, total: number, note = ''): void {
    if (task !== this.#task) {
      this.stop()
      this.#task = task
      this.#began = performance.now()
      this.#first = done
    }
    if (this.#bar === undefined && done < total) {
      const format = `${task} {bar} {value}/{total} {left} {note}`
      this.#bar = new SingleBar(
        { format, stream: this.stream, barsize: 24, hideCursor: true, fps: 5, clearOnComplete: true },
        Presets.shades_classic,
      )
      this.#bar.start(total, done, { note, left: '' })
    }
    this.#bar?.update(done, { note, left: this.#left(done, total) })
  }

  say(line: string): void {
    this.stop()
    this.stream.write(`${line}\n`)
  }

  stop(): void {
    this.#bar?.stop()
    this.#bar = undefined
    this.#task = ''
  }

  /** From the rate since the task began; the first update tells none. */
  #left(done: number, total: number): string {
    if (done <= this.#first) return ''
    return `${formatSeconds(((performance.now() - this.#began) / 1000 / (done - this.#first)) * (total - done))} left`
  }
}

/** 45 s, 12 min, 3 h. */
export function formatSeconds(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`
  return seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`
}
