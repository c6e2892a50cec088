// Trains the tokenizer of the demo's model: CLIP's byte-level BPE with a small vocabulary, as a tokenizer.json that
// Hugging Face's CLIPTokenizerFast reads. Deterministic: pairs are merged by count, ties by code-unit order.
//
//   node demo/tokenizer.mjs            writes demo/model/tokenizer.json and tokenizer_config.json

import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { captionsOf } from './captions.mjs'
import { CACHE, loadConcepts } from './emoji/index.mjs'

const BOS = '<|startoftext|>'
const EOS = '<|endoftext|>'
const END_OF_WORD = '</w>'
const CONTEXT = 24
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+/gu

/** GPT-2's table from bytes to printable characters, in the order of OpenAI's vocabulary. */
function byteAlphabet() {
  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i)
  const printable = [...range(33, 126), ...range(161, 172), ...range(174, 255)]
  const rest = range(0, 255).filter((byte) => !printable.includes(byte))
  const table = new Map(printable.map((byte) => [byte, String.fromCharCode(byte)]))
  rest.forEach((byte, i) => {
    table.set(byte, String.fromCharCode(256 + i))
  })
  return table
}

/** Distinct words of the texts as [{ symbols, count }]; the last symbol of a word carries `</w>`. */
function countWords(texts, alphabet) {
  const counts = new Map()
  for (const text of texts) {
    for (const [word] of text.normalize('NFC').toLowerCase().matchAll(WORDS)) {
      const symbols = [...Buffer.from(word, 'utf8')].map((byte) => alphabet.get(byte))
      symbols[symbols.length - 1] += END_OF_WORD
      const key = symbols.join(' ')
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
  }
  return [...counts].map(([key, count]) => ({ symbols: key.split(' '), count }))
}

/** The commonest neighbouring pair "a b"; undefined when none is seen twice. */
function bestPair(words) {
  const counts = new Map()
  for (const { symbols, count } of words) {
    for (let i = 1; i < symbols.length; i++) {
      const pair = `${symbols[i - 1]} ${symbols[i]}`
      counts.set(pair, (counts.get(pair) ?? 0) + count)
    }
  }
  let best
  for (const [pair, count] of counts) {
    if (!best || count > best.count || (count === best.count && pair < best.pair)) best = { pair, count }
  }
  return best && best.count > 1 ? best.pair : undefined
}

function applyMerge(symbols, left, right) {
  const merged = []
  for (let i = 0; i < symbols.length; i++) {
    const joins = symbols[i] === left && symbols[i + 1] === right
    merged.push(joins ? left + right : symbols[i])
    if (joins) i++
  }
  return merged
}

/** @returns {{ vocab: Record<string, number>, merges: [string, string][] }} of at most `size` entries */
export function trainBpe(texts, size) {
  const alphabet = byteAlphabet()
  const words = countWords(texts, alphabet)
  const entries = [...alphabet.values(), ...[...alphabet.values()].map((symbol) => symbol + END_OF_WORD)]
  const merges = []
  while (entries.length < size - 2) {
    const pair = bestPair(words)
    if (pair === undefined) break
    const [left, right] = pair.split(' ')
    for (const word of words) word.symbols = applyMerge(word.symbols, left, right)
    merges.push([left, right])
    entries.push(left + right)
  }
  return { vocab: Object.fromEntries([...entries, BOS, EOS].map((entry, id) => [entry, id])), merges }
}

/** The tokenizer.json of a CLIPTokenizerFast. */
export function clipTokenizerJson({ vocab, merges }) {
  const special = (content) => {
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
    return { id: vocab[content], content, ...flags }
  }
  const pattern = `<\\|startoftext\\|>|<\\|endoftext\\|>|${WORDS.source}`
  const byteLevel = { type: 'ByteLevel', trim_offsets: true, use_regex: true }
  const split = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: true }
  const normalizers = [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' }, { type: 'Lowercase' }]
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special(BOS), special(EOS)],
    normalizer: { type: 'Sequence', normalizers },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [split, { ...byteLevel, add_prefix_space: false }] },
    post_processor: {
      type: 'RobertaProcessing',
      sep: [EOS, vocab[EOS]],
      cls: [BOS, vocab[BOS]],
      trim_offsets: false,
      add_prefix_space: false,
    },
    decoder: { ...byteLevel, add_prefix_space: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: EOS,
      continuing_subword_prefix: '',
      end_of_word_suffix: END_OF_WORD,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  }
}

async function main() {
  const { concepts } = await loadConcepts(['noto'], CACHE)
  const texts = concepts.flatMap(({ name }) => captionsOf(name))
  const bpe = trainBpe(texts, 1536)
  const folder = new URL('model/', import.meta.url)
  mkdirSync(folder, { recursive: true })
  writeFileSync(new URL('tokenizer.json', folder), `${JSON.stringify(clipTokenizerJson(bpe), null, 1)}\n`)
  const config = {
    tokenizer_class: 'CLIPTokenizer',
    bos_token: BOS,
    eos_token: EOS,
    pad_token: EOS,
    unk_token: EOS,
    model_max_length: CONTEXT,
  }
  writeFileSync(new URL('tokenizer_config.json', folder), `${JSON.stringify(config, null, 2)}\n`)
  console.log(`${Object.keys(bpe.vocab).length} entries, ${bpe.merges.length} merges`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
