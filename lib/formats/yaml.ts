/** YAML files (JSON is one of them) of settings and recipes: small, shallow, with a bound on what aliases unfold to. */

import { Lexer, Parser, parse } from 'yaml'
import { CambiumError, messageOf } from '../errors.js'
import { readFile, stat } from '../files.js'

const MOST_BYTES = 10_000_000
/** Of open collections. The parser recurses: at the end of the stack V8 aborts the process when a regular expression is next. */
const MOST_LEVELS = 128

/**
 * @param what leads error messages
 * @throws E_CONFIG for a file that is too large or too deep, or no YAML; E_IO when it cannot be read
 */
export async function readYaml(path: string, what: string): Promise<unknown> {
  let text: string
  try {
    const { size } = await stat(path)
    if (size > MOST_BYTES) throw new CambiumError('E_CONFIG', `${what}: expected at most ${MOST_BYTES} bytes, got ${size}`)
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof CambiumError) throw error
    throw new CambiumError('E_IO', `${what}: expected a YAML file, got ${messageOf(error)}`, { cause: error })
  }
  return parseYaml(text, what)
}

function parseYaml(text: string, what: string): unknown {
  try {
    if (isDeeper(text)) throw new Error(`expected at most ${MOST_LEVELS} levels, got more`)
    return parse(text)
  } catch (error) {
    const [line] = messageOf(error).split('\n') // the others draw the place
    throw new CambiumError('E_CONFIG', `${what}: ${line.replace(/:$/, '')}`, { cause: error })
  }
}

/** Lexer and parser of the first pass do not recurse, and the parser's stack is the depth. */
function isDeeper(text: string): boolean {
  const parser = new Parser()
  for (const lexeme of new Lexer().lex(text)) {
    for (const _ of parser.next(lexeme)) if (parser.stack.length > MOST_LEVELS) return true
    if (parser.stack.length > MOST_LEVELS) return true
  }
  return false
}
