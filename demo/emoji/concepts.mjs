// One concept in many hands: finds, for every emoji, each vendor's drawing of it.
//
// The Unicode sequence is the concept. Four packages carry a table from sequences to names; the other three share their
// short names (noto-v1, emojione: the same kebab-case names or aliases; fxemoji: run together, "hotbeverage"), so they
// are found by name. What can hardly be told apart, or is no picture of a thing, is left out: skin tones, gender and
// family sequences, flags, clock faces, letters and digits in boxes.

import { readFileSync } from 'node:fs'

const NAMED_ONLY = ['noto-v1', 'emojione', 'fxemoji']

/** Mozilla's names that differ by more than hyphens, with the others' names for the same emoji. */
const FXEMOJI_NAMES = JSON.parse(readFileSync(new URL('fxemoji-names.json', import.meta.url), 'utf8'))

const letters = (name) => name.replace(/[^a-z0-9]/g, '')

const CLOCK = /-oclock$|-thirty$/
const BOXED = /^keycap|^letter-|-button$|-arrow$|^input-|^japanese-.*-button|^circled-|^regional-|^\d+$|-sign$/

/** True for a sequence (code points in hex, joined by "-") that we want as a class of its own. */
function wanted(code, name, category) {
  if (category === undefined || category === 'Flags') return false
  if (/200d|1f3f[b-f]|20e3|1f1e[6-9a-f]|1f1f/.test(code)) return false
  return !CLOCK.test(name) && !(category === 'Symbols' && BOXED.test(name))
}

/** From a vendor's name to the icon that is drawn, through aliases; mirrored and turned aliases are not drawings. */
function resolve(pack, name) {
  let at = name
  for (let depth = 0; depth < 8; depth++) {
    if (pack.icons[at]) return at
    const alias = pack.aliases[at]
    if (!alias || alias.hFlip || alias.vFlip || alias.rotate) return undefined
    at = alias.parent
  }
  return undefined
}

/** All names of a vendor without hyphens, so that "hotbeverage" finds "hot-beverage"; fxemoji through its own table. */
function lettersIndex(vendor, pack) {
  const index = new Map()
  for (const name of [...Object.keys(pack.icons), ...Object.keys(pack.aliases)]) {
    if (!index.has(letters(name))) index.set(letters(name), name)
    const known = vendor === 'fxemoji' ? FXEMOJI_NAMES[name] : undefined
    if (known) index.set(letters(known), name)
  }
  return index
}

/**
 * The concepts of the packages, by Noto's table, which has them all.
 * @returns [{ code, name: 'hot beverage', category, drawings: { vendor: icon name } }], in code order.
 */
export function alignConcepts(packages) {
  const { chars, categories } = packages.noto
  const categoryOf = new Map(Object.entries(categories).flatMap(([category, names]) => names.map((name) => [name, category])))
  const indexes = new Map(NAMED_ONLY.filter((v) => packages[v]).map((v) => [v, lettersIndex(v, packages[v])]))
  const concepts = []
  for (const [code, name] of Object.entries(chars).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const category = categoryOf.get(name)
    if (!wanted(code, name, category)) continue
    const drawings = {}
    for (const [vendor, pack] of Object.entries(packages)) {
      const own = indexes.has(vendor) ? indexes.get(vendor).get(letters(name)) : pack.chars[code]
      const icon = own === undefined ? undefined : resolve(pack, own)
      if (icon !== undefined) drawings[vendor] = icon
    }
    concepts.push({ code, name: name.replaceAll('-', ' '), category, drawings })
  }
  return concepts
}
