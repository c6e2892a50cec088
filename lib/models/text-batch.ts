// Token ids of several texts as packed rows. Equal texts are one (exact: the tower is a function of the text) and what
// follows the end-of-text token is cut (exact: attention is causal and that token is where CLIP pools).
import { CambiumError } from '../errors.js'
import { eotPosition } from '../formats/tokenizer.js'

/** What is left out of a batch of texts, exactly. */
export interface TextOptions {
  /** encode equal texts once (default true) */
  dedupe?: boolean
  /** cut each text after its end token (default true); otherwise all are padded to the context length */
  cut?: boolean
}

export interface TextBatch {
  readonly ids: Int32Array
  readonly positions: Int32Array
  /** [U+1] */
  readonly offsets: Int32Array
  /** a number that a text has in whatever batch it stands: [U] */
  readonly keys: Int32Array
  /** row of the end token of each encoded text: [U] */
  readonly pooled: Int32Array
  /** encoded text of each entry: [N]; undefined when they are the same in number and order */
  readonly index?: Int32Array
  readonly maxTokens: number
}

/** @throws E_TOKENS for an empty list or a text without an end token, E_TEXT_LENGTH for one beyond the context */
export function textBatch(
  texts: readonly (readonly number[])[],
  context: number,
  eosTokenId: number,
  options: TextOptions = {},
): TextBatch {
  const { dedupe = true, cut = true } = options
  if (texts.length === 0) throw new CambiumError('E_TOKENS', 'texts: expected at least one text, got none')
  const unique: (readonly number[])[] = []
  const index = new Int32Array(texts.length)
  const seen = new Map<string, number>()
  texts.forEach((text, i) => {
    const key = dedupe ? text.join(' ') : String(i)
    let at = seen.get(key)
    if (at === undefined) {
      at = unique.push(text) - 1
      seen.set(key, at)
    }
    index[i] = at
  })
  const ends = unique.map((text) => eotPosition(text, eosTokenId))
  const lengths = ends.map((end) => (cut ? end + 1 : context))
  const longest = Math.max(...lengths)
  if (longest > context || Math.max(...ends) >= context)
    throw new CambiumError('E_TEXT_LENGTH', `texts: expected at most ${context} tokens, got ${Math.max(...ends) + 1}`)
  const rows = lengths.reduce((sum, length) => sum + length, 0)
  const ids = new Int32Array(rows)
  const positions = new Int32Array(rows)
  const offsets = new Int32Array(unique.length + 1)
  const pooled = new Int32Array(unique.length)
  unique.forEach((text, u) => {
    const start = offsets[u]
    for (let n = 0; n < lengths[u]; n++) {
      ids[start + n] = n < text.length ? text[n] : 0 // padding follows the end token and is never seen by it
      positions[start + n] = n
    }
    pooled[u] = start + ends[u]
    offsets[u + 1] = start + lengths[u]
  })
  const keys = Int32Array.from(unique, (text, u) => digest(text.slice(0, ends[u] + 1)))
  const same = unique.length === texts.length
  return { ids, positions, offsets, keys, pooled, maxTokens: longest, ...(same ? {} : { index }) }
}

/** FNV-1a over the ids. */
const digest = (ids: readonly number[]) => ids.reduce((hash, id) => Math.imul(hash ^ id, 0x01000193), 0x811c9dc5)
