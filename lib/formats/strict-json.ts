/**
 * A JSON reader for files that others wrote. `JSON.parse` keeps the last of two equal keys, loses the digits of integers above
 * 2^53 and lets `__proto__` through; here objects are Maps, a repeated key is an error, and integers are BigInts.
 */

export type StrictJson = string | bigint | number | boolean | null | StrictJson[] | Map<string, StrictJson>

/** What is wrong and where; `duplicateKey` is set when the text is JSON but for a repeated key. */
export class StrictJsonError extends Error {
  constructor(
    message: string,
    readonly position: number,
    readonly duplicateKey?: string,
  ) {
    super(`${message} at character ${position}`)
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y
const SPACE = /[ \t\n\r]*/y
// A run of characters that need no thought: neither the quote, the backslash nor a control character.
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids raw control characters in strings
const PLAIN = /[^"\\\u0000-\u001f]*/y
const ESCAPES = '"\\/bfnrt'
const MAX_DEPTH = 64
const MOST_DIGITS = 400
/** Of all lists together: a header of 100 MB with a million tensors has fewer. */
const MOST_ENTRIES = 10_000_000

/** Parses a whole text. Throws StrictJsonError. Integers without fraction or exponent become BigInt, other numbers number. */
export function parseStrictJson(text: string): StrictJson {
  const reader = new Reader(text)
  const value = reader.value(0)
  reader.space()
  if (reader.at < text.length) throw new StrictJsonError('expected the end of the text', reader.at)
  return value
}

class Reader {
  at = 0
  entries = 0
  constructor(private readonly text: string) {}

  value(depth: number): StrictJson {
    if (depth > MAX_DEPTH) throw this.error(`expected at most ${MAX_DEPTH} levels`)
    this.space()
    switch (this.text[this.at]) {
      case '{':
        return this.object(depth)
      case '[':
        return this.array(depth)
      case '"':
        return this.string()
      case 't':
        return this.word('true', true)
      case 'f':
        return this.word('false', false)
      case 'n':
        return this.word('null', null)
      default:
        return this.number()
    }
  }

  space(): void {
    SPACE.lastIndex = this.at
    SPACE.test(this.text)
    this.at = SPACE.lastIndex
  }

  private object(depth: number): Map<string, StrictJson> {
    const object = new Map<string, StrictJson>()
    this.at += 1
    this.space()
    if (this.take('}')) return object
    do {
      this.space()
      const start = this.at
      const key = this.string()
      if (object.has(key)) throw new StrictJsonError(`expected each key once, got ${JSON.stringify(key)} again`, start, key)
      this.space()
      this.expect(':')
      object.set(key, this.value(depth + 1))
      this.space()
    } while (this.take(','))
    this.expect('}')
    return object
  }

  private array(depth: number): StrictJson[] {
    const array: StrictJson[] = []
    this.at += 1
    this.space()
    if (this.take(']')) return array
    do {
      array.push(this.value(depth + 1))
      if (++this.entries > MOST_ENTRIES) throw this.error(`expected at most ${MOST_ENTRIES} entries of lists`)
      this.space()
    } while (this.take(','))
    this.expect(']')
    return array
  }

  private string(): string {
    const start = this.at
    this.expect('"')
    let escaped = false
    for (;;) {
      PLAIN.lastIndex = this.at
      PLAIN.test(this.text)
      this.at = PLAIN.lastIndex
      if (this.take('"')) break
      if (!this.take('\\')) throw this.error('expected the end of a string')
      this.skipEscape()
      escaped = true
    }
    // Undoing escapes one by one would take a hundred times the text's memory.
    return escaped ? (JSON.parse(this.text.slice(start, this.at)) as string) : this.text.slice(start + 1, this.at - 1)
  }

  private skipEscape(): void {
    const letter = this.text[this.at++]
    if (letter === 'u') {
      if (!/^[0-9a-fA-F]{4}$/.test(this.text.slice(this.at, this.at + 4))) throw this.error('expected four hexadecimal digits')
      this.at += 4
    } else if (letter === undefined || !ESCAPES.includes(letter)) throw this.error('expected an escape that JSON knows')
  }

  private number(): bigint | number {
    NUMBER.lastIndex = this.at
    const match = NUMBER.exec(this.text)
    if (match === null) throw this.error('expected a value')
    // More than any 64-bit number and its sign; turning millions of digits into a BigInt takes for ever.
    if (match[0].length > MOST_DIGITS) throw this.error(`expected a number of at most ${MOST_DIGITS} characters`)
    this.at = NUMBER.lastIndex
    return match[1] === undefined && match[2] === undefined && match[0] !== '-0' ? BigInt(match[0]) : Number(match[0])
  }

  private word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) throw this.error('expected a value')
    this.at += word.length
    return value
  }

  private take(character: string): boolean {
    if (this.text[this.at] !== character) return false
    this.at += 1
    return true
  }

  private expect(character: string): void {
    if (!this.take(character)) throw this.error(`expected '${character}'`)
  }

  private error(message: string): StrictJsonError {
    return new StrictJsonError(message, Math.min(this.at, this.text.length))
  }
}
