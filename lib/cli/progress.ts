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

class Bars implements Progress {
  #bar: SingleBar | undefined
  #task = ''

  constructor(private readonly stream: NodeJS.WriteStream) {}

  show(task: string, done: number, total: number, note = ''): void {
    if (task !== this.#task) {
      this.stop()
      this.#task = task
      const format = `${task} {bar} {value}/{total} {eta_formatted} {note}`
      this.#bar = new SingleBar(
        { format, stream: this.stream, barsize: 24, hideCursor: true, fps: 5, etaBuffer: 20 },
        Presets.shades_classic,
      )
      this.#bar.start(total, done, { note })
    }
    this.#bar?.update(done, { note })
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
}
