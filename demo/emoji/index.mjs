// The demo's data in one place: packages, concepts, and which of them may be learnt from.

import { createHash } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { alignConcepts } from './concepts.mjs'
import { loadPackages } from './packages.mjs'

/** Tarballs and pictures lie here, outside version control; `CAMBIUM_DEMO_CACHE` puts them elsewhere. */
export const CACHE = process.env.CAMBIUM_DEMO_CACHE ?? fileURLToPath(new URL('../../.cache/demo', import.meta.url))

/** Vendors whose drawings the demo's model was pretrained on: Apache and CC BY only. */
export const PRETRAINED = ['noto', 'noto-v1', 'twemoji', 'emojione']

/** The style that the demo teaches, and those that nobody teaches: out of distribution. */
export const TAUGHT = 'fluent'
export const OUT_OF_DISTRIBUTION = ['fxemoji', 'openmoji']
export const UNSEEN = [TAUGHT, ...OUT_OF_DISTRIBUTION]

/** Split of a concept by a hash of its code, for all vendors alike: a test concept is never fine-tuned on in any hand. */
export function splitOf(code) {
  const u = createHash('sha256').update(code).digest().readUInt32BE() / 2 ** 32
  return u < 0.5 ? 'train' : u < 0.65 ? 'val' : 'test'
}

/** Packages and aligned concepts (each with its split) of the vendors; "noto" must be among them. */
export async function loadConcepts(vendors, cache = CACHE) {
  const packages = await loadPackages(vendors, cache)
  const concepts = alignConcepts(packages).map((concept) => ({ ...concept, split: splitOf(concept.code) }))
  return { packages, concepts }
}
