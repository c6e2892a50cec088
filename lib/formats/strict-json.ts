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
const ESCAPES: Readonly<Record<string, string>> = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }
const MAX_DEPTH = 64

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
      this.space()
    } while (this.take(','))
    this.expect(']')
    return array
  }

  private string(): string {
    this.expect('"')
    let result = ''
    for (;;) {
      const start = this.at
      PLAIN.lastIndex = start
      PLAIN.test(this.text)
      this.at = PLAIN.lastIndex
      result += this.text.slice(start, this.at)
      if (this.take('"')) return result
      if (!this.take('\\')) throw this.error('expected the end of a string')
      result += this.escape()
    }
  }

  private escape(): string {
    const letter = this.text[this.at++]
    if (letter === 'u') {
      const digits = this.text.slice(this.at, this.at + 4)
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.error('expected four hexadecimal digits')
      this.at += 4
      return String.fromCharCode(Number.parseInt(digits, 16))
    }
    const plain = letter === undefined ? undefined : ESCAPES[letter]
    if (plain === undefined) throw this.error('expected an escape that JSON knows')
    return plain
  }

  private number(): bigint | number {
    NUMBER.lastIndex = this.at
    const match = NUMBER.exec(this.text)
    if (match === null) throw this.error('expected a value')
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
