/**
 * Text to token ids, by Hugging Face's tokenizer in pure JavaScript, and the place in a sequence where CLIP pools.
 */

import { join } from 'node:path'
import { CambiumError, messageOf } from '../errors.js'
import { readFile } from '../files.js'
import { clipTokenizerJson, END_OF_TEXT, START_OF_TEXT } from './clip-bpe.js'
import { isJsonObject, type JsonObject, readJsonObject } from './json-fields.js'
import { checkPatterns } from './tokenizer-patterns.js'

/** The part of `@huggingface/tokenizers` used here. */
interface Engine {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] }
  decode(ids: number[], options: { skip_special_tokens: boolean }): string
  token_to_id(token: string): number | undefined
  get_vocab(withAddedTokens?: boolean): Map<string, number>
}

export interface EncodeOptions {
  /** Longest sequence, start and end token included; CLIP's `maxPositionEmbeddings`. Default: no limit. */
  maxLength?: number
  /** Cut longer texts, the last id being the end token (default), or throw E_TEXT_LENGTH. */
  truncate?: boolean
}

export class ClipTokenizer {
  private constructor(
    private readonly engine: Engine,
    readonly bosTokenId: number,
    readonly eosTokenId: number,
  ) {}

  /**
   * From `tokenizer.json`, else from `vocab.json` and `merges.txt` of a folder.
   * Errors: E_NOT_FOUND when there is neither, E_TOKENIZER when they are no tokenizer of CLIP.
   */
  static async load(folder: string): Promise<ClipTokenizer> {
    const config = {
      ...(await readJsonObject(join(folder, 'special_tokens_map.json'))),
      ...(await readJsonObject(join(folder, 'tokenizer_config.json'))),
    }
    const whole = await readJsonObject(join(folder, 'tokenizer.json'))
    if (whole !== undefined) return ClipTokenizer.fromJson(whole, config)
    const vocab = await readJsonObject(join(folder, 'vocab.json'))
    const merges = await readFile(join(folder, 'merges.txt'), 'utf8').catch(() => undefined)
    if (vocab === undefined || merges === undefined) {
      throw new CambiumError('E_NOT_FOUND', `${folder}: expected tokenizer.json, or vocab.json and merges.txt, got neither`)
    }
    return ClipTokenizer.fromJson(clipTokenizerJson(vocab, merges), config)
  }

  /** From the contents of tokenizer.json and tokenizer_config.json. */
  static async fromJson(tokenizer: JsonObject, config: JsonObject = {}): Promise<ClipTokenizer> {
    checkPatterns(tokenizer)
    const { Tokenizer } = await import('@huggingface/tokenizers')
    let engine: Engine
    try {
      engine = new Tokenizer(tokenizer, config) as unknown as Engine
    } catch (error) {
      throw new CambiumError('E_TOKENIZER', `tokenizer.json: expected a tokenizer, got ${messageOf(error)}`, { cause: error })
    }
    const id = (name: string, standard: string) => {
      const token = contentOf(config[name]) ?? standard
      const found = engine.token_to_id(token)
      if (found === undefined || !Number.isSafeInteger(found) || found < 0)
        throw new CambiumError('E_TOKENIZER', `tokenizer: expected an id for ${name} ${token}, got none`)
      return found
    }
    return new ClipTokenizer(engine, id('bos_token', START_OF_TEXT), id('eos_token', END_OF_TEXT))
  }

  /** One more than the largest id: what the model's vocabulary must hold. */
  get vocabSize(): number {
    let largest = 0
    for (const id of this.engine.get_vocab().values()) if (id > largest) largest = id
    return largest + 1
  }

  /**
   * Ids of each text, without padding: start token, text, end token. Lengths differ.
   * Errors: E_TEXT_LENGTH when a text is too long and `truncate` is false; E_OPTION for a `maxLength` below 2.
   */
  encode(texts: readonly string[], options: EncodeOptions = {}): number[][] {
    const limit = options.maxLength ?? Number.POSITIVE_INFINITY
    if (limit < 2) throw new CambiumError('E_OPTION', `maxLength: expected at least 2 tokens, got ${limit}`)
    return texts.map((text) => {
      const { ids } = this.engine.encode(text, { add_special_tokens: false })
      const wrong = ids.findIndex((id) => !(Number.isSafeInteger(id) && id >= 0))
      if (wrong >= 0)
        throw new CambiumError(
          'E_TOKENIZER',
          `tokenizer: expected ids that are whole numbers, got ${ids[wrong]} in ${JSON.stringify(text.slice(0, 60))}`,
        )
      if (ids.length + 2 > limit) {
        if (options.truncate === false) {
          throw new CambiumError(
            'E_TEXT_LENGTH',
            `text: expected at most ${limit} tokens, got ${ids.length + 2} in ${JSON.stringify(text.slice(0, 60))}`,
          )
        }
        ids.length = limit - 2
      }
      return [this.bosTokenId, ...ids, this.eosTokenId]
    })
  }

  /** The text of ids; start and end tokens are left out. */
  decode(ids: readonly number[]): string {
    return this.engine.decode([...ids], { skip_special_tokens: true })
  }
}

function contentOf(token: unknown): string | undefined {
  if (typeof token === 'string') return token
  return isJsonObject(token) && typeof token.content === 'string' ? token.content : undefined
}

/**
 * The row where CLIP pools a text, padded or not: the first `eosTokenId`; for configurations that say 2 (files before 2023, by
 * a slip of the config), the first largest id, as OpenAI's code does. Throws E_TOKENS when there is no such id.
 */
export function eotPosition(ids: ArrayLike<number>, eosTokenId: number): number {
  if (eosTokenId === 2) {
    let best = 0
    for (let i = 1; i < ids.length; i++) if (ids[i] > ids[best]) best = i
    return best
  }
  for (let i = 0; i < ids.length; i++) if (ids[i] === eosTokenId) return i
  throw new CambiumError('E_TOKENS', `ids: expected the end-of-text id ${eosTokenId}, got a sequence of ${ids.length} ids without it`)
}
