/**
 * What `classify` and `embed` work on: names on the command line, or lines of standard input, read as fast as they are used. A
 * line is a path (or, with --text, a text), or a JSON object with `image` or `text` and, if it likes, an `id` that comes back.
 */
import process from 'node:process'
import { createInterface } from 'node:readline'
import { imagePaths } from '../data/image-paths.js'
import { CambiumError, messageOf } from '../errors.js'
import { parseJsonObject } from '../formats/json-fields.js'
import type { StreamItem } from '../train/feature-stream.js'
import { UsageError } from './settings.js'

/** What comes back with a result, to tell whose it is. */
export interface Source {
  readonly id?: unknown
  readonly image?: string
  readonly text?: string
  /** of standard input, where the line could not be read */
  readonly line?: number
}

export type Input = StreamItem & { readonly source: Source }

/**
 * @param names of the command line; none, or `-`: standard input
 * @param texts whether names and plain lines are texts
 * @throws E_USAGE without any input, E_NOT_FOUND for a folder or a pattern without images
 */
export async function* readInputs(
  names: readonly string[],
  texts: boolean,
  stdin: NodeJS.ReadStream = process.stdin,
): AsyncGenerator<Input> {
  const fromLines = names.length === 0 || (names.length === 1 && names[0] === '-')
  if (!fromLines) {
    for await (const name of texts ? names : imagePaths(names)) yield plain(name, texts)
    return
  }
  if (stdin.isTTY) throw new UsageError(`inputs: expected ${texts ? 'texts' : 'images'}, or lines on standard input, got none`)
  let line = 0
  for await (const text of createInterface({ input: stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    line += 1
    if (text.trim() === '') continue
    yield text.trimStart().startsWith('{') ? fromJson(text, line) : plain(text, texts)
  }
}

function plain(name: string, isText: boolean): Input {
  return isText ? { text: name, source: { text: name } } : { image: name, source: { image: name } }
}

function fromJson(line: string, number: number): Input {
  try {
    const { id, image, text } = parseJsonObject(line, `line ${number}`)
    const known = id === undefined ? {} : { id }
    if (typeof image === 'string' && text === undefined) return { image, source: { ...known, image } }
    if (typeof text === 'string' && image === undefined) return { text, source: { ...known, text } }
    throw new CambiumError('E_DATA', `line ${number}: expected a text "image" or a text "text", got ${line.slice(0, 60)}`)
  } catch (error) {
    return { error: new CambiumError('E_DATA', messageOf(error), { cause: error }), source: { line: number } }
  }
}
