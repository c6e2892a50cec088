// Pictures as the library's datasets: every concept's name is a class, for every vendor, so that "which emoji is this?"
// is asked among all names, whichever part of them a set holds.

import { Dataset } from '../../dist/index.mjs'
import { TEMPLATES } from '../captions.mjs'

/** @param pictures [{ path, concept }], @param concepts all concepts: the classes */
export function datasetOf(pictures, concepts) {
  const label = new Map(concepts.map(({ code }, i) => [code, i]))
  const samples = pictures.map(({ path, concept }) => ({
    id: path.split(/[\\/]/).slice(-2).join('/'),
    image: path,
    label: label.get(concept.code),
  }))
  return new Dataset(samples, { classNames: concepts.map(({ name }) => name), templates: TEMPLATES })
}
