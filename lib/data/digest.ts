// What tells one set of images from another.
import { createHash } from 'node:crypto'
import type { Dataset } from './dataset.js'

/** Tells one set from another by what its samples are called and labelled, without reading images. 64 hexadecimal digits. */
export function digestOf({ samples, classNames, templates }: Dataset): string {
  const hash = createHash('sha256').update(JSON.stringify([classNames, templates]))
  for (const { id, label, captions } of samples) hash.update(JSON.stringify([id, label, captions]))
  return hash.digest('hex')
}
