/** A look at the first bytes of an image: most files need no more than that before they are decoded. */

/** `plain`: 8-bit grey or RGB with or without alpha; `unknown`: ask the decoder. */
export type ImageKind = 'plain' | 'unknown'

/** Tells plain JPEG and PNG files from those that need a rule of their own (CMYK, 16 bits) or that we do not know. */
export function imageKind(bytes: Uint8Array): ImageKind {
  if (bytes.length > 29 && bytes[0] === 0x89 && bytes[1] === 0x50) return bytes[24] <= 8 ? 'plain' : 'unknown'
  if (bytes.length > 4 && bytes[0] === 0xff && bytes[1] === 0xd8) return jpegComponents(bytes) === 4 ? 'unknown' : 'plain'
  return 'unknown'
}

/** The number of components that the start-of-frame segment names; 0 when there is none. */
function jpegComponents(bytes: Uint8Array): number {
  let at = 2
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1]
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc
    if (isFrame) return bytes[at + 9]
    at += marker === 0xff ? 1 : 2 + bytes[at + 2] * 256 + bytes[at + 3]
  }
  return 0
}
