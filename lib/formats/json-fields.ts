/** Reading typed fields from a model's JSON files, with errors that name the file and the field. */

import { CambiumError, fail, isCambiumError, messageOf } from '../errors.js'
import { readFile, stat } from '../files.js'

export type JsonObject = Readonly<Record<string, unknown>>

/** Larger than any tokenizer, deeper than any configuration: what is above was made to fill memory or stack. */
const MOST_BYTES = 100_000_000
const MOST_LEVELS = 64
const QUOTE = 0x22
const BACKSLASH = 0x5c

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A JSON file that holds an object; undefined when there is none. Errors: E_CONFIG, E_IO. */
export async function readJsonObject(path: string): Promise<JsonObject | undefined> {
  let text: string
  try {
    const info = await stat(path)
    if (!info.isFile() || info.size > MOST_BYTES)
      fail('E_CONFIG', path, `a file of at most ${MOST_BYTES} bytes`, info.isFile() ? info.size : 'something else')
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isCambiumError(error)) throw error
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined
    throw new CambiumError('E_IO', `${path}: ${messageOf(error)}`, { cause: error })
  }
  return parseJsonObject(text, path)
}

export function parseJsonObject(text: string, what: string): JsonObject {
  if (isDeeper(text, MOST_LEVELS)) throw new CambiumError('E_CONFIG', `${what}: expected at most ${MOST_LEVELS} levels of JSON, got more`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new CambiumError('E_CONFIG', `${what}: expected JSON, got ${messageOf(error)}`, { cause: error })
  }
  if (!isJsonObject(value)) throw new CambiumError('E_CONFIG', `${what}: expected an object, got another value`)
  return value
}

/** Whether lists and objects lie in each other more than `most` deep; strings are skipped. */
function isDeeper(text: string, most: number): boolean {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length && depth <= most; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) inString = !inString
    else if (inString) i += c === BACKSLASH ? 1 : 0
    else if (c === 0x5b || c === 0x7b) depth++
    else if (c === 0x5d || c === 0x7d) depth--
  }
  return depth > most
}

/** Typed access to the fields of one object; `where` leads in error messages. null counts as absent, as in Python's files. */
export class Fields {
  constructor(
    private readonly object: JsonObject,
    private readonly where: string,
  ) {}

  has(name: string): boolean {
    return Object.hasOwn(this.object, name) && this.object[name] !== null
  }

  get(name: string): unknown {
    return this.has(name) ? this.object[name] : undefined
  }

  /** A whole number of at least `least`. */
  integer(name: string, standard: number, least = 1): number {
    const value = this.get(name) ?? standard
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least) return value
    return fail('E_CONFIG', `${this.where}${name}`, `a whole number of at least ${least}`, value)
  }

  number(name: string, standard: number): number {
    const value = this.get(name) ?? standard
    return typeof value === 'number' && Number.isFinite(value) ? value : fail('E_CONFIG', `${this.where}${name}`, 'a number', value)
  }

  boolean(name: string, standard: boolean): boolean {
    const value = this.get(name) ?? standard
    return typeof value === 'boolean' ? value : fail('E_CONFIG', `${this.where}${name}`, 'true or false', value)
  }

  objectAt(name: string): JsonObject | undefined {
    const value = this.get(name)
    return value === undefined || isJsonObject(value) ? value : fail('E_CONFIG', `${this.where}${name}`, 'an object', value)
  }

  /** Exactly `count` numbers. */
  numbers(name: string, standard: readonly number[]): number[] {
    const value = this.get(name) ?? standard
    if (Array.isArray(value) && value.length === standard.length && value.every((entry) => typeof entry === 'number')) return value
    return fail('E_CONFIG', `${this.where}${name}`, `${standard.length} numbers`, value)
  }
}
