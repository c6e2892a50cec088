/**
 * Results as they come: JSON Lines on standard output or in a file, or with --json one object that holds them all, written piece
 * by piece too. A write waits for a slow reader, so that nothing piles up.
 */
import { createWriteStream } from 'node:fs'
import process from 'node:process'
import type { Writable } from 'node:stream'
import { ioError } from '../formats/atomic-file.js'

export class ResultLines {
  readonly #stream: Writable
  readonly #whole: boolean
  #count = 0
  #failure: Error | undefined

  /** @param whole one JSON object on standard output instead of lines; with a file the object holds no results */
  constructor(
    private readonly file: string | undefined,
    private readonly whole: boolean,
  ) {
    this.#stream = file === undefined ? process.stdout : createWriteStream(file)
    this.#whole = whole && file === undefined
    if (file === undefined) return
    this.#stream.on('error', (error) => {
      this.#failure = error
    })
  }

  /** @throws E_IO, E_NO_SPACE when the file cannot be written */
  async write(result: object): Promise<void> {
    const lead = this.#whole ? (this.#count === 0 ? '{"results":[\n' : ',\n') : ''
    this.#count += 1
    await this.#put(`${lead}${JSON.stringify(result)}${this.#whole ? '' : '\n'}`)
  }

  /** Ends the output; `summary` is the rest of the one object. @throws as write */
  async end(summary: object): Promise<void> {
    const rest = JSON.stringify(summary).slice(1)
    if (this.#whole) await this.#put(`${this.#count === 0 ? '{"results":[' : '\n'}],${rest}\n`)
    if (this.file === undefined) return
    // An error of the last write comes to the callback before it is an event.
    await new Promise<void>((resolve) => {
      this.#stream.end((error?: Error | null) => {
        this.#failure ??= error ?? undefined
        resolve()
      })
    })
    this.#check()
    if (this.whole) process.stdout.write(`{${rest}\n`)
  }

  async #put(text: string): Promise<void> {
    this.#check()
    if (this.#stream.write(text)) return
    await new Promise<void>((resolve) => {
      const done = () => {
        for (const event of ['drain', 'error', 'close']) this.#stream.off(event, done)
        resolve()
      }
      for (const event of ['drain', 'error', 'close']) this.#stream.on(event, done)
    })
    this.#check()
  }

  #check(): void {
    if (this.#failure !== undefined) throw ioError(this.file ?? 'standard output', this.#failure)
  }
}
