/** The tokenizer.json that CLIP's `vocab.json` and `merges.txt` stand for: the pipeline of Hugging Face's fast CLIP tokenizer. */
import { CambiumError } from '../errors.js'
import type { JsonObject } from './json-fields.js'

export const START_OF_TEXT = '<|startoftext|>'
export const END_OF_TEXT = '<|endoftext|>'

/** The split pattern of CLIP: special tokens, English contractions, letters, single digits, runs of other signs. */
const WORDS = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"

/**
 * @param vocab token -> id, as in vocab.json
 * @param merges the text of merges.txt; a first line `#version…` is skipped
 * Errors: E_TOKENIZER when a special token is missing or a merge is no pair.
 */
export function clipTokenizerJson(vocab: JsonObject, merges: string): JsonObject {
  const idOf = (token: string) => {
    const id = vocab[token]
    if (typeof id === 'number') return id
    throw new CambiumError('E_TOKENIZER', `vocab.json: expected an id for ${token}, got none`)
  }
  const bos = idOf(START_OF_TEXT)
  const eos = idOf(END_OF_TEXT)
  const special = (content: string, id: number) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  })
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special(START_OF_TEXT, bos), special(END_OF_TEXT, eos)].sort((a, b) => a.id - b.id),
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' }, { type: 'Lowercase' }],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: WORDS }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: {
      type: 'RobertaProcessing',
      sep: [END_OF_TEXT, eos],
      cls: [START_OF_TEXT, bos],
      trim_offsets: false,
      add_prefix_space: false,
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: END_OF_TEXT,
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: parseMerges(merges),
    },
  }
}

function parseMerges(text: string): string[][] {
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''))
  if (lines[0]?.startsWith('#version')) lines.shift()
  return lines
    .filter((line) => line !== '')
    .map((line, index) => {
      const pair = line.split(' ')
      if (pair.length !== 2)
        throw new CambiumError('E_TOKENIZER', `merges.txt: expected two tokens in merge ${index + 1}, got ${JSON.stringify(line)}`)
      return pair
    })
}
