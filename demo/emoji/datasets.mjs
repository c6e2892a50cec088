// Pictures as the library's datasets: the name of a concept is a class, the same list of them for every vendor.

import { Dataset } from '../../dist/index.mjs'
import { TEMPLATES } from '../captions.mjs'

/** @param pictures [{ path, concept }] @param concepts the classes, drawn by this vendor or not */
export function datasetOf(pictures, concepts) {
  const label = new Map(concepts.map(({ code }, i) => [code, i]))
  const samples = pictures.map(({ path, concept }) => ({
    id: path.split(/[\\/]/).slice(-2).join('/'),
    image: path,
    label: label.get(concept.code),
  }))
  return new Dataset(samples, { classNames: concepts.map(({ name }) => name), templates: TEMPLATES })
}
