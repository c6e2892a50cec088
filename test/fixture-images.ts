/** Pillow's results for the images of test/fixtures/images, by the names of make_case.py. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { headerLength, parseHeader } from '../lib/formats/safetensors-header.js'

export const imageFolder = join(__dirname, 'fixtures/images')

export interface Pixels {
  readonly data: Uint8Array
  readonly height: number
  readonly width: number
}

/** name -> [H, W, 3] */
export function pillowResults(): Map<string, Pixels> {
  const path = join(imageFolder, 'case.safetensors')
  const bytes = readFileSync(path)
  const { tensors } = parseHeader(bytes.subarray(8, 8 + headerLength(bytes, bytes.length, path)), bytes.length, path)
  return new Map(
    [...tensors.values()].map(({ name, offset, bytes: size, shape: [height, width] }) => [
      name,
      { data: new Uint8Array(bytes.subarray(offset, offset + size)), height, width },
    ]),
  )
}
