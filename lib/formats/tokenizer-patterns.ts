/**
 * What a `tokenizer.json` may ask of the text it is given. Its patterns become regular expressions, which can take the process
 * down while they are compiled (very long ones) or never end (repeated groups); its replacements can make a text grow from
 * step to step. No tokenizer of CLIP comes near these limits.
 */
import { CambiumError } from '../errors.js'
import { isJsonObject, type JsonObject } from './json-fields.js'

const MOST_CHARACTERS = 1000
/** By all replacements together. */
const MOST_GROWTH = 1024

/** @throws E_TOKENIZER for a pattern or a replacement beyond the limits */
export function checkPatterns(tokenizer: JsonObject): void {
  let growth = 1
  const visit = (value: unknown, where: string): void => {
    if (Array.isArray(value)) for (const entry of value) visit(entry, where)
    else if (isJsonObject(value)) {
      if ('pattern' in value) {
        checkPattern(value.pattern, `${where}.pattern`)
        if (value.type === 'Replace') growth *= 1 + String(value.content ?? '').length
        if (growth > MOST_GROWTH)
          throw new CambiumError('E_TOKENIZER', `${where}: expected replacements that keep a text short, got long ones`)
      }
      for (const [key, entry] of Object.entries(value)) if (typeof entry === 'object') visit(entry, `${where}.${key}`)
    }
  }
  for (const part of ['normalizer', 'pre_tokenizer', 'decoder']) visit(tokenizer[part], `tokenizer.json: ${part}`)
}

function checkPattern(pattern: unknown, where: string): void {
  const { Regex: regex, String: text } = isJsonObject(pattern) ? pattern : ({} as JsonObject)
  const source = regex ?? text
  if (typeof source !== 'string')
    throw new CambiumError('E_TOKENIZER', `${where}: expected {"Regex": …} or {"String": …}, got another value`)
  if (source.length > MOST_CHARACTERS)
    throw new CambiumError('E_TOKENIZER', `${where}: expected at most ${MOST_CHARACTERS} characters, got ${source.length}`)
  // A group that repeats can match a text in more ways than there is time to try: (a+)+, (a|a)*.
  if (typeof regex === 'string' && /\)[*+{]/.test(regex.replace(/\\./g, '')))
    throw new CambiumError('E_TOKENIZER', `${where}: expected no repeated group, got ${JSON.stringify(regex)}`)
}
