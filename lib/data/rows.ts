/** Rows of a table on disk, one at a time: CSV and TSV with a header line, or JSON Lines. */
import { createReadStream } from 'node:fs'
import { parse } from 'csv-parse'
import { CambiumError, messageOf } from '../errors.js'
import { isJsonObject, type JsonObject } from '../formats/json-fields.js'

/** Of one line or row: what is longer is no table. */
const MOST_CHARACTERS = 16_000_000

/** A row with the number of its line, for errors. */
export interface Row {
  readonly line: number
  readonly fields: JsonObject
}

/**
 * Reads `.csv`, `.tsv`, `.jsonl` or `.ndjson`. A byte order mark is skipped; empty lines too.
 * Errors: E_NOT_FOUND; E_DATA names the line.
 */
export async function* readRows(path: string): AsyncGenerator<Row> {
  const name = path.toLowerCase()
  try {
    if (name.endsWith('.jsonl') || name.endsWith('.ndjson')) yield* readJsonLines(path)
    else if (name.endsWith('.csv')) yield* readDelimited(path, ',')
    else if (name.endsWith('.tsv')) yield* readDelimited(path, '\t')
    else throw new CambiumError('E_DATA', `${path}: expected .csv, .tsv, .jsonl or .ndjson, got another extension`)
  } catch (error) {
    if (error instanceof CambiumError) throw error
    const missing = (error as { code?: unknown }).code === 'ENOENT'
    throw new CambiumError(
      missing ? 'E_NOT_FOUND' : 'E_DATA',
      `${path}: ${missing ? 'expected a table, got no such file' : messageOf(error)}`,
      { cause: error },
    )
  }
}

async function* readDelimited(path: string, delimiter: string): AsyncGenerator<Row> {
  const source = createReadStream(path)
  const parser = parse({
    delimiter,
    columns: true,
    bom: true,
    skip_empty_lines: true,
    trim: true,
    info: true,
    max_record_size: MOST_CHARACTERS,
  })
  source.on('error', (error) => parser.destroy(error))
  source.pipe(parser)
  for await (const { record, info } of parser as AsyncIterable<{ record: JsonObject; info: { lines: number } }>) {
    yield { line: info.lines, fields: record }
  }
}

async function* readJsonLines(path: string): AsyncGenerator<Row> {
  let line = 0
  for await (const text of readLines(path)) {
    line += 1
    if (text.trim() !== '') yield { line, fields: parseLine(line === 1 ? text.replace(/^\uFEFF/, '') : text, path, line) }
  }
}

/** The lines of a text file, without their ends. Throws the file system's errors, and E_DATA for a line without end. */
export async function* readLines(path: string): AsyncGenerator<string> {
  let rest = ''
  let line = 1
  for await (const chunk of createReadStream(path, 'utf8') as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    line += lines.length
    if (rest.length > MOST_CHARACTERS)
      throw new CambiumError('E_DATA', `${path}:${line}: expected a line of at most ${MOST_CHARACTERS} characters, got more`)
    for (const text of lines) yield text.replace(/\r$/, '')
  }
  if (rest !== '') yield rest
}

function parseLine(text: string, path: string, line: number): JsonObject {
  try {
    const value: unknown = JSON.parse(text)
    if (isJsonObject(value)) return value
  } catch (error) {
    throw new CambiumError('E_DATA', `${path}:${line}: expected JSON, got ${messageOf(error)}`, { cause: error })
  }
  throw new CambiumError('E_DATA', `${path}:${line}: expected an object, got another value`)
}
