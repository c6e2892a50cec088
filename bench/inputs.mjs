// The inputs that bench/peers/make_clip.py wrote beside a model.
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const { native } = require('../dist/native.js')
const { openSafetensors } = require('../dist/formats/safetensors-read.js')

const PROMPTS = 4
export const PROMPT_TOKENS = 11

/** So many tokens of a text from `start`, between its start and end tokens, padded to the context. */
const asPrompt = (text, start = 1) => [
  text[0],
  ...text.slice(start, start + PROMPT_TOKENS - 2),
  text.at(-1),
  ...Array(text.length - PROMPT_TOKENS).fill(0),
]

/** As short as class prompts are, with so many different ones. */
const asPrompts = (ids, labels) => ids.map((_, i) => asPrompt(ids[labels[i] % PROMPTS]))

/** Different texts as short as class prompts are, cut from those of the input sets. */
export function classPrompts(sets, count) {
  const texts = sets.flatMap(({ ids }) => ids)
  const room = Math.floor((texts[0].length - 2) / (PROMPT_TOKENS - 2))
  if (count > texts.length * room) throw new Error(`classes: expected at most ${texts.length * room}, got ${count}`)
  return Array.from({ length: count }, (_, i) => asPrompt(texts[i % texts.length], 1 + Math.floor(i / texts.length) * (PROMPT_TOKENS - 2)))
}

/**
 * Every input set of a benchmark folder: pixels, token ids, labels.
 * @param options.batch so many of each set (default all); options.text 'prompts': short texts, few of them different
 */
export async function readInputs(folder, { batch, text } = {}) {
  const { tensors } = await openSafetensors(join(folder, 'bench-inputs.safetensors'))
  // Only the rows that are used: what is read and dropped would count in the peak of the process.
  const read = async (name, to, rows) => {
    const { path, offset, count, shape, dtype, fileSize } = tensors.get(name)
    return native.readTensor({ path, offset, count: (count / shape[0]) * rows, from: dtype, to, expectedSize: fileSize })
  }
  const sets = [...tensors.keys()].filter((name) => name.startsWith('pixels.')).length
  return Promise.all(
    Array.from({ length: sets }, async (_, i) => {
      const [all, ...sides] = tensors.get(`pixels.${i}`).shape
      const [, length] = tensors.get(`ids.${i}`).shape
      const count = Math.min(batch ?? all, all)
      const ids = Array.from(new Int32Array(await read(`ids.${i}`, 'I32', count)))
      const pixels = new Float32Array(await read(`pixels.${i}`, 'F32', count))
      const labels = new Int32Array(await read(`labels.${i}`, 'I32', count))
      const texts = Array.from({ length: count }, (_, r) => ids.slice(r * length, (r + 1) * length))
      return { pixels, shape: [count, ...sides], ids: text === 'prompts' ? asPrompts(texts, labels) : texts, labels }
    }),
  )
}
